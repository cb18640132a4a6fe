"""A request's messages to the tokens of its prompt. The way into this package; runs inside the engine child.

Public: ChatTemplate, render_chat, prepare, Prepared, RunawayTemplate, and the Tokenizer protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localllm.api import ChatRequest, Message, Notice, ToolSpec
from localllm.chat.segments import Segment
from localllm.chat.tokens import SpecialToken, Tokenizer

__all__ = ["ChatTemplate", "Prepared", "RunawayTemplate", "Segment", "SpecialToken", "Tokenizer", "prepare", "render_chat"]


class RunawayTemplate(BaseException):
    """A template could not be stopped; its thread still runs. The process should end itself."""


class ChatTemplate:
    """A compiled chat template.

    `source` None: the GGUF has none, ChatML is used and `prepare` says so. `bos`, `eos`: the text of those tokens.
    `named`: other templates of the file by name ("tool_use", "rerank"), the part after `tokenizer.chat_template.`.
    Raises TemplateError where the source does not compile.
    """

    def __init__(
        self, source: str | None, *, bos: str = "", eos: str = "", named: Mapping[str, str] | None = None
    ) -> None:
        raise NotImplementedError


def render_chat(
    template: ChatTemplate,
    messages: Sequence[Message],
    tools: Sequence[ToolSpec] = (),
    *,
    add_generation_prompt: bool = True,
    name: str | None = None,
    args: Mapping[str, Any] | None = None,
) -> list[Segment]:
    """The prompt's text in segments. `name` picks a named template. Raises TemplateError."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt ready for the scheduler. `reasoning_format` is for `parsers.parser_for`."""

    tokens: list[int]
    notices: list[Notice]
    reasoning_format: str
    starts_in_reasoning: bool


def prepare(template: ChatTemplate, tokenizer: Tokenizer, request: ChatRequest, num_ctx: int) -> Prepared:
    """Render, tokenize and fit a request.

    Raises ContextLengthError (with both counts) when the prompt and one token more do not fit in `num_ctx` and the
    request does not ask to drop turns; TemplateError; InvalidRequestError; RunawayTemplate.
    """
    raise NotImplementedError
