"""Columns of a terminal: how wide text is, and where it may be broken. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len

_WIDE = (
    "\u1100-\u115f\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f"
    "\uff01-\uff60\uffe0-\uffe6\U00020000-\U0003fffd"
)
# What is never parted: a run of blanks, a wide character with what belongs to it, a word.
_WORDS = re.compile(f"[ \\t]+|[{_WIDE}][\u0300-\u036f\ufe00-\ufe0f]*|[^ \\t{_WIDE}]+")
_JOINERS = frozenset("\u200d\ufe0e\ufe0f\u20e3")
_SKIN = range(0x1F3FB, 0x1F400)


# A joiner with nothing to join: Rich takes the next character for part of what stands before.
_LOOSE = re.compile("\u200d(?=[\u0000-\u02ff]|$)")


def joined(text: str) -> str:
    """`text` without joiners that join nothing, such as the last one of an emoji that is still being written."""
    return _LOOSE.sub("", text) if "\u200d" in text else text


def cells(text: str) -> int:
    """The columns of `text`."""
    return len(text) if text.isascii() else cell_len(text)


def clusters(text: str) -> Iterator[str]:
    """The characters as a person counts them: with their marks, emoji with what joins them."""
    start = 0
    for index in range(1, len(text)):
        char = text[index]
        if (
            text[index - 1] == "\u200d"
            or char in _JOINERS
            or ord(char) in _SKIN
            or (char > "\u02ff" and not cells(char))
        ):
            continue
        yield text[start:index]
        start = index
    if text:
        yield text[start:]


def breaks(text: str, width: int) -> list[tuple[int, int, str]]:
    """Where one line of text is broken to fit `width`: start and end of each part, and what joined it to the last.

    Blanks at a break belong to neither part and count as " "; "" joins what was broken inside a word.
    """
    width = max(1, width)
    if cells(text) <= width:
        return [(0, len(text), "")]
    found: list[tuple[int, int, str]] = []
    start = end = column = 0
    glue = ""
    for at, word, size in _words(text, width):
        if word.isspace():
            column += size
            continue
        if column + size > width:
            if end > start:
                found.append((start, end, glue))
                glue = "" if at == end else " "
            start, column = at, 0
        end = at + len(word)
        column += size
    found.append((start, end, glue))
    return found


def _words(text: str, width: int) -> Iterator[tuple[int, str, int]]:
    """Where each word starts, it, and its columns; a word wider than a line comes in parts."""
    for match in _WORDS.finditer(text):
        word, at = match.group(), match.start()
        size = cells(word)
        if size <= width or word.isspace():
            yield at, word, size
            continue
        for start, end in folds(word, width):
            yield at + start, word[start:end], cells(word[start:end])


def folds(text: str, width: int) -> list[tuple[int, int]]:
    """Start and end of parts of `text` that fill `width`, blanks and all."""
    if text.isascii():
        return [(start, min(len(text), start + width)) for start in range(0, len(text), width)]
    found: list[tuple[int, int]] = []
    start = end = column = 0
    for cluster in clusters(text):
        size = cells(cluster)
        if column + size > width and end > start:
            found.append((start, end))
            start, column = end, 0
        end += len(cluster)
        column += size
    found.append((start, end))
    return found
