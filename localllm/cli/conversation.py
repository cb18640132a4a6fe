"""A conversation at the REPL: its turns, how they are asked, and how it is kept in a file. No terminal here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from localllm.api import ChatRequest, Finished, Message, SamplingParams, Truncate
from localllm.cli.answer import Answer
from localllm.errors import LocalLLMError, UsageError
from localllm.store.files import save_json

SCHEMA = 1
MAX_FILE_BYTES = 64 << 20


class SavedConversation(msgspec.Struct, frozen=True):
    """The JSON document that `/save` writes."""

    model: str
    messages: tuple[Message, ...]
    system: str | None = None
    sampling: SamplingParams = SamplingParams()
    schema: int = SCHEMA


class Conversation:
    """Turns so far and the settings for the next one. A turn is added whole, question and answer, or not at all."""

    def __init__(
        self,
        *,
        model: str,
        system: str | None = None,
        sampling: SamplingParams | None = None,
        think: bool | None = None,
        truncate: Truncate = "error",
        verbose: bool = False,
        draft_model: str | None = None,
        generation: dict[str, Any] | None = None,
        local: bool = False,
        own_load: tuple[str, ...] = (),
    ) -> None:
        self.model = model
        self.system = system
        self.sampling = sampling or SamplingParams()
        self.think = think
        self.truncate: Truncate = truncate
        self.verbose = verbose
        self.draft_model = draft_model
        # Whether to leave a running daemon alone, and the options for which that has to be.
        self.local = local
        self.own_load = own_load
        # Further fields of every request.
        self.generation = generation or {}
        self.messages: list[Message] = []
        self.last: Finished | None = None
        self.num_answers = 0

    def request(self, prompt: str) -> ChatRequest:
        """What the model is asked when `prompt` comes next."""
        head = [Message("system", self.system)] if self.system else []
        messages = (*head, *self.messages, Message("user", prompt))
        return ChatRequest(
            self.model, messages, self.sampling, think=self.think, truncate=self.truncate, **self.generation
        )

    def add(self, prompt: str, answer: Answer) -> None:
        """Keep a turn, also one that was stopped halfway."""
        self.messages.append(Message("user", prompt))
        calls = tuple(answer.tool_calls)
        self.messages.append(Message("assistant", answer.content, reasoning=answer.reasoning or None, tool_calls=calls))
        self.num_answers += 1
        self.last = answer.finished

    def take_back(self) -> str | None:
        """Forget the last turn and return what was asked in it; None where there is none."""
        while self.messages:
            if (message := self.messages.pop()).role == "user":
                return message.content
        return None

    def clear(self) -> None:
        """Forget every turn; the system prompt stays."""
        self.messages.clear()

    def save(self, path: Path) -> None:
        """Write the conversation as JSON, whole or not at all, readable by its owner only."""
        saved = SavedConversation(self.model, tuple(self.messages), self.system, self.sampling)
        save_json(saved, path)

    def load(self, path: Path) -> None:
        """Take turns, system prompt and sampling from a file; this conversation is left alone when that fails."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as exc:
            raise LocalLLMError(f"{path} cannot be read: {exc.strerror}") from exc
        if len(data) > MAX_FILE_BYTES:
            raise UsageError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB")
        try:
            saved = msgspec.json.decode(data, type=SavedConversation)
        except msgspec.MsgspecError as exc:
            raise UsageError(f"{path} is no saved conversation: {exc}", hint="`/save FILE` writes one") from exc
        if saved.schema > SCHEMA:
            raise UsageError(f"{path} was written by a later version of localllm")
        self.messages = list(saved.messages)
        self.system, self.sampling = saved.system, saved.sampling
