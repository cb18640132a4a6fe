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
_NUM_WORDS = range(2, 9)
_NUM_LETTERS = range(4, 25)  # of a script that has no spaces between words
_COPIED = 4  # words in a row that are no chance
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
    said = _first_two(path)
    request = ChatRequest(
        model=model,
        messages=(Message("user", f"{_beginning(said)}\n\n{_ASK}"),),
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
    return clean_title("".join(pieces), [node.content for node in said])


def clean_title(said: str, texts: Iterable[str] = ()) -> str | None:
    """The title in what a model said of `texts`; None where there is none, as small models often answer instead.

    A title is one line of two to eight words, no code, and not how one of the texts begins.
    """
    line = said.strip()
    if "\n" in line or "```" in line or "~~~" in line:
        return None
    title = re.sub(r"^(title\s*:|#+)\s*", "", line, flags=re.IGNORECASE).strip(_AROUND)
    if title.endswith(":"):
        return None  # the start of a longer answer
    title = title.rstrip(".;,").strip(_AROUND)
    if not _is_of_length(title) or len(title) > MAX_CHARS:
        return None
    return None if any(_begins(text, title) for text in texts) else title


_AROUND = " \t\"'`*_“”‘’«»「」"


def _is_of_length(title: str) -> bool:
    words = [word for word in title.split() if any(char.isalnum() for char in word)]
    if len(words) != 1:
        return len(words) in _NUM_WORDS
    # Chinese, Japanese, Thai: many words in one.
    return (
        not title.isascii()
        and len(title) in _NUM_LETTERS
        and not any(char.isupper() or char.islower() for char in title)
    )


def _begins(text: str, title: str) -> bool:
    """Whether `title` is how a longer text begins, by its words."""
    words, start = _words(title), _words(text[: 4 * MAX_CHARS])
    return len(start) > len(words) >= _COPIED and start[: len(words)] == words


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


_NAMES = {"user": "Question", "assistant": "Answer"}


def _first_two(path: Iterable[Node]) -> list[Node]:
    return [node for node in path if node.role in _NAMES and node.content.strip()][:2]


def _beginning(said: Iterable[Node]) -> str:
    """The first question and the start of its answer, as text that is talked about."""
    return "\n\n".join(f"{_NAMES[node.role]}: {node.content.strip()[:600]}" for node in said)
