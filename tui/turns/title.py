"""A conversation's title, by its model: asked for when nobody waits, taken only where it is one."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable

from localllm_tui.history.values import Node

from localllm.api import Backend, ChatRequest, Message, SamplingParams, TextDelta
from localllm.closing import closing
from localllm.errors import LocalLLMError

MAX_CHARS = 60
_PRIORITY = -50  # behind everybody who waits for an answer
_ASK = "Give this conversation a title of two to six words. Write the title only, without quotes."


def first_words(text: str, num_chars: int = MAX_CHARS) -> str:
    """What a conversation is called until it has a title: how it begins, cut between words."""
    line = " ".join(text.split())
    if len(line) <= num_chars:
        return line
    cut = line[: num_chars - 1]
    return f"{cut.rsplit(' ', 1)[0] if ' ' in cut else cut}…"


async def ask_title(backend: Backend, model: str, path: Iterable[Node]) -> str | None:
    """A title for a conversation that begins like this; None where the model gives none. Errors are no news here."""
    request = ChatRequest(
        model=model,
        messages=(Message("user", f"{_beginning(path)}\n\n{_ASK}"),),
        sampling=SamplingParams(max_tokens=24, temperature=0.2),
        think=False,
        reasoning_budget=0,
        priority=_PRIORITY,
        truncate="oldest",
        deadline_s=60.0,
        request_id=uuid.uuid4().hex,
    )
    pieces: list[str] = []
    try:
        async with closing(backend.chat(request)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    pieces.append(event.text)
    except LocalLLMError:
        return None
    return clean_title("".join(pieces))


def clean_title(said: str) -> str | None:
    """The title in what a model said; None where there is none."""
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    if not lines:
        return None
    title = re.sub(r"^(title|#+)\s*:?\s*", "", lines[0], flags=re.IGNORECASE).strip(" \t\"'`*_“”‘’«»")
    title = first_words(title.rstrip(".:;,"))
    return title if any(char.isalnum() for char in title) else None


def _beginning(path: Iterable[Node]) -> str:
    """The first question and the start of its answer, as text that is talked about."""
    names = {"user": "Question", "assistant": "Answer"}
    said = [node for node in path if node.role in names and node.content.strip()][:2]
    return "\n\n".join(f"{names[node.role]}: {node.content.strip()[:600]}" for node in said)
