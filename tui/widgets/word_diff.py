"""What differs between two texts, word by word, in bounded time. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

# Comparing takes up to the product of both lengths: with these bounds some tenths of a second at the worst.
MAX_WORDS = 3_000
MAX_LINES = 2_000

Piece = tuple[str, bool]
_WORD = re.compile(r"\w+|[^\w\s]+|\s+")
# Below this share of words in common, marks would say nothing: everything is other.
MIN_ALIKE = 0.25


class TextDiff(NamedTuple):
    """Both texts in pieces, each with whether the other text lacks it.

    Nothing is marked where `by` is "nothing" (too long) or "other" (hardly anything is alike).
    """

    left: tuple[Piece, ...]
    right: tuple[Piece, ...]
    by: Literal["words", "lines", "nothing", "other"]


def text_diff(left: str, right: str) -> TextDiff:
    """By words; long texts by lines; very long ones not at all. Pieces joined are the texts."""
    ways: tuple[tuple[Literal["words", "lines"], list[str], list[str], int], ...] = (
        ("words", _WORD.findall(left), _WORD.findall(right), MAX_WORDS),
        ("lines", left.splitlines(keepends=True), right.splitlines(keepends=True), MAX_LINES),
    )
    for by, ours, theirs, bound in ways:
        start = _num_alike(ours, theirs)
        end = _num_alike(ours[start:][::-1], theirs[start:][::-1])
        if max(len(ours), len(theirs)) - start - end <= bound:
            same_left, same_right = _same(ours, theirs, start, end)
            if len(same_left) + len(same_right) < MIN_ALIKE * (len(ours) + len(theirs)):
                return _unmarked(left, right, "other")
            return TextDiff(_pieces(ours, same_left), _pieces(theirs, same_right), by)
    return _unmarked(left, right, "nothing")


def _unmarked(left: str, right: str, by: Literal["nothing", "other"]) -> TextDiff:
    return TextDiff(_pieces([left], {0}), _pieces([right], {0}), by)


def _num_alike(ours: Sequence[str], theirs: Sequence[str]) -> int:
    number = 0
    for one, other in zip(ours, theirs, strict=False):
        if one != other:
            break
        number += 1
    return number


def _same(ours: list[str], theirs: list[str], start: int, end: int) -> tuple[set[int], set[int]]:
    """Which parts both have, by index. Spaces alone are no reason to call two places alike."""
    same_left = {*range(start), *range(len(ours) - end, len(ours))}
    same_right = {*range(start), *range(len(theirs) - end, len(theirs))}
    middle, other = ours[start : len(ours) - end], theirs[start : len(theirs) - end]
    for block in SequenceMatcher(str.isspace, middle, other).get_matching_blocks():
        if any(not part.isspace() for part in middle[block.a : block.a + block.size]):
            same_left.update(range(start + block.a, start + block.a + block.size))
            same_right.update(range(start + block.b, start + block.b + block.size))
    return same_left, same_right


def _pieces(parts: Sequence[str], same: set[int]) -> tuple[Piece, ...]:
    """Neighbours of one kind as one piece; spaces at a piece's edges are never marked."""
    pieces: list[Piece] = []
    for index, part in enumerate(parts):
        differs = index not in same and not (part.isspace() and not _is_inside(parts, same, index))
        if pieces and pieces[-1][1] == differs:
            pieces[-1] = (pieces[-1][0] + part, differs)
        elif part:
            pieces.append((part, differs))
    return tuple(pieces)


def _is_inside(parts: Sequence[str], same: set[int], index: int) -> bool:
    """Whether both neighbours differ, so that a mark may run through."""
    return 0 < index < len(parts) - 1 and index - 1 not in same and index + 1 not in same
