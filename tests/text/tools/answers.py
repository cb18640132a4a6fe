"""Tools, calls and answers for the tests of this folder."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from localllm.api import ToolCall, ToolSpec
from localllm.text.parsers import format_named
from localllm.text.parsers.calls import AnswerPiece, CallArguments, CallBegin, CallEnd
from localllm.text.tools.families import parser_of
from localllm.text.tools.form import ToolFormat

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "where": {"type": "object"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "exact": {"type": "boolean"},
    },
    "required": ["city"],
}
TOOLS = (ToolSpec("get_weather", "The weather.", WEATHER), ToolSpec("now", "The time."))
ARGUMENTS: dict[str, Any] = {
    "city": 'Zürich <b> "x" \\ 👩‍👩‍👧\nline 2',
    "days": 3,
    "where": {"a": [1, "b"], "c": None},
    "tags": ["x", ""],
    "exact": False,
}
CALLS = (
    ToolCall("c1", "get_weather", json.dumps(ARGUMENTS, ensure_ascii=False)),
    ToolCall("c2", "now", "{}"),
)


class Heard(NamedTuple):
    """What an answer came to: its text, its reasoning, and its calls as (name, arguments as text)."""

    text: str
    reasoning: str
    calls: tuple[tuple[str, str], ...]


def hear(
    form: ToolFormat, chunks: Sequence[str], *, eager: bool = False, reasoning: str = "none", opened: bool = False
) -> Heard:
    """Feed an answer in chunks; checks that each call begins, goes on and ends."""
    kind = format_named("harmony" if form.is_harmony else reasoning)
    parser = parser_of(kind, opened, form, TOOLS, eager)
    pieces: list[AnswerPiece] = [piece for chunk in chunks for piece in parser.feed(chunk)]
    pieces += parser.flush()
    assert not parser.flush()
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[tuple[str, str]] = []
    open_call: tuple[str, list[str]] | None = None
    for piece in pieces:
        if isinstance(piece, CallBegin):
            assert open_call is None
            assert piece.id
            open_call = piece.name, []
        elif isinstance(piece, CallArguments):
            assert open_call is not None
            open_call[1].append(piece.text)
        elif isinstance(piece, CallEnd):
            assert open_call is not None
            calls.append((open_call[0], "".join(open_call[1])))
            open_call = None
        else:
            assert open_call is None
            assert piece[1]
            (thoughts if piece[0] == "reasoning" else texts).append(piece[1])
    assert open_call is None
    return Heard("".join(texts), "".join(thoughts), tuple(calls))


def ways_to_cut(whole: str) -> list[list[str]]:
    """An answer at once, character by character, cut in two at every position, and in many at random ones."""
    rng = random.Random(whole)
    ways = [[whole], list(whole)]
    ways += [[whole[:at], whole[at:]] for at in range(1, len(whole))]
    for _ in range(10):
        cuts = sorted({0, len(whole), *(rng.randrange(len(whole) + 1) for _ in range(6))})
        ways.append([whole[a:b] for a, b in itertools.pairwise(cuts)])
    return ways


def values(heard: Heard) -> list[tuple[str, Any]]:
    """The calls with their arguments as values."""
    return [(name, json.loads(arguments)) for name, arguments in heard.calls]
