"""Long text in pieces that a native tokenizer survives. Owns where text may be cut; knows no vocabulary.

llama.cpp matches some vocabularies' word patterns with std::regex, which recurses once a character: a run of 40,000
letters overflows a stack of 8 MiB, and stacks of 1 MiB exist. Its SentencePiece merges take quadratic time where
characters without a token follow each other. A cut between a word and what is no word moves no token border.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_PIECE_CHARS = 8192
MAX_RUN_CHARS = 1024
_RUN = re.compile(r"\S+|\s+")
_BORDERS = (
    re.compile(r"(?<=[^\W_])(?= [^\W_])"),
    re.compile(r"(?<=[^\W_])(?=[^\w\s])|(?<=\n)(?=[^\W_])"),
)


def cut(text: str) -> list[str]:
    """`text` in order, each piece of at most MAX_PIECE_CHARS and without a longer run of spaces or of no spaces."""
    if len(text) <= MAX_RUN_CHARS:
        return [text]
    return [part for piece in _bounded(text, MAX_PIECE_CHARS) for part in _without_long_runs(piece)]


def _bounded(text: str, max_chars: int) -> Iterator[str]:
    start = 0
    while len(text) - start > max_chars:
        end = _border(text, start + max_chars // 2, start + max_chars)
        yield text[start:end]
        start = end
    yield text[start:]


def _border(text: str, low: int, high: int) -> int:
    """The last good place to cut in (low, high], else `high`."""
    for pattern in _BORDERS:
        last = None
        for last in pattern.finditer(text, low + 1, high + 2):  # noqa: B007  the last one is what counts
            pass
        if last is not None and last.start() <= high:
            return last.start()
    return high


def _without_long_runs(piece: str) -> Iterator[str]:
    start = 0
    for run in _RUN.finditer(piece):
        if run.end() - run.start() > MAX_RUN_CHARS:
            *parts, rest = _bounded(piece[run.start() : run.end()], MAX_RUN_CHARS)
            yield piece[start : run.start()] + parts[0]
            yield from parts[1:]
            start = run.end() - len(rest)
    yield piece[start:]
