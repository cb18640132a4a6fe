"""Where Vim's motions lead in a text. Pure: a text and a place in it, in characters, give a place."""

from __future__ import annotations

from typing import Literal, NamedTuple

Extent = Literal["exclusive", "inclusive", "lines"]
MOTIONS = frozenset("hjklwbeWBE0^$G;,") | {"gg"}
FINDS = frozenset("fFtT")


class Motion(NamedTuple):
    """Where a motion leads, and what an operator over it takes: up to there, that character too, or whole lines."""

    target: int
    extent: Extent


def line_start(text: str, at: int) -> int:
    """Where the line begins."""
    return text.rfind("\n", 0, at) + 1


def line_end(text: str, at: int) -> int:
    """Where the line ends: the place of its line end, or of the text's."""
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def first_word(text: str, at: int) -> int:
    """The first character of the line that is no blank."""
    start, end = line_start(text, at), line_end(text, at)
    return min(start + len(text[start:end]) - len(text[start:end].lstrip()), max(start, end - 1))


def on_character(text: str, at: int) -> int:
    """The nearest place where Vim's normal mode lets the cursor stand: on a character, if the line has any."""
    at = max(0, min(at, len(text)))
    return max(line_start(text, at), min(at, line_end(text, at) - 1))


def move(text: str, at: int, keys: str, count: int | None, *, goal: int | None = None) -> Motion | None:
    """Where `keys` lead from `at`, `count` times; None where they do not. `goal`: the column that j and k keep to."""
    times = count or 1
    match keys:
        case "h":
            return Motion(max(line_start(text, at), at - times), "exclusive")
        case "l":
            return Motion(min(line_end(text, at), at + times), "exclusive")
        case "0":
            return Motion(line_start(text, at), "exclusive")
        case "^":
            return Motion(first_word(text, at), "exclusive")
        case "$":
            end = line_end(text, _below(text, at, times - 1, 0) if times > 1 else at)
            return Motion(max(line_start(text, end), end - 1), "inclusive") if end > at else None
        case "j" | "k":
            column = at - line_start(text, at) if goal is None else goal
            target = _below(text, at, times if keys == "j" else -times, column)
            return None if line_start(text, target) == line_start(text, at) else Motion(target, "lines")
        case "gg" | "G":
            row = (count or 1) - 1 if keys == "gg" or count else text.count("\n")
            return Motion(first_word(text, _below(text, 0, row, 0)), "lines")
        case _:
            return _over_words(text, at, keys, times)


def find(text: str, at: int, key: str, char: str, times: int, *, again: bool = False) -> Motion | None:
    """The `times`-th `char` of the line behind (f, t) or before (F, T) the cursor; `again`: t and T pass the next."""
    forward, short = key in "ft", key in "tT"
    start, end = line_start(text, at), line_end(text, at)
    place = at + (1 if forward else -1) * (1 if short and again else 0)
    for _ in range(times):
        place = text.find(char, place + 1, end) if forward else text.rfind(char, start, max(start, place))
        if place < 0:
            return None
    return Motion(place - (1 if forward else -1) * short, "inclusive" if forward else "exclusive")


def word_end(text: str, at: int, times: int, *, big: bool = False) -> int:
    """The end of the word under the cursor, where `cw` stops; further words for more `times`."""
    while at + 1 < len(text) and _kind(text[at + 1], big) == _kind(text[at], big) and text[at + 1] != "\n":
        at += 1
    for _ in range(times - 1):
        at = _end_of_word(text, at, big)
    return at


def word_around(text: str, at: int, *, blanks: bool) -> tuple[int, int]:
    """Where the word under the cursor begins and ends; with the blanks behind it, if wanted."""
    start, end, kind = at, at + 1, _kind(text[at], False)
    while start > line_start(text, at) and _kind(text[start - 1], False) == kind:
        start -= 1
    while end < line_end(text, at) and _kind(text[end], False) == kind:
        end += 1
    while blanks and end < line_end(text, at) and not _kind(text[end], False):
        end += 1
    return start, end


def _over_words(text: str, at: int, keys: str, times: int) -> Motion | None:
    step = {"w": _next_word, "b": _word_before, "e": _end_of_word}.get(keys.lower())
    if step is None:
        return None
    target = at
    for _ in range(times):
        target = step(text, target, keys.isupper())
    if target == at:
        return None
    return Motion(target, "inclusive" if keys in "eE" else "exclusive")


def _below(text: str, at: int, rows: int, column: int) -> int:
    """The place `rows` lines further down (up, where negative), as far as there are lines."""
    start = line_start(text, at)
    for _ in range(abs(rows)):
        if rows > 0:
            end = line_end(text, start)
            if end == len(text):
                break
            start = end + 1
        elif start == 0:
            break
        else:
            start = line_start(text, start - 1)
    return min(start + column, max(start, line_end(text, start) - 1))


def _kind(char: str, big: bool) -> int:
    """0 a blank, 1 a letter of a word, 2 punctuation; for big words everything but blanks is a letter."""
    if char.isspace():
        return 0
    return 1 if big or char.isalnum() or char == "_" else 2


def _next_word(text: str, at: int, big: bool) -> int:
    if at >= len(text):
        return at
    kind = _kind(text[at], big)
    while kind and at < len(text) and _kind(text[at], big) == kind:
        at += 1
    while at < len(text) and not _kind(text[at], big):
        at += 1
        if text[at - 1 : at + 1] == "\n\n":  # an empty line counts as a word
            break
    return at


def _word_before(text: str, at: int, big: bool) -> int:
    at -= 1
    while at > 0 and not _kind(text[at], big) and text[at - 1 : at + 1] != "\n\n":
        at -= 1
    while at > 0 and _kind(text[at], big) and _kind(text[at - 1], big) == _kind(text[at], big):
        at -= 1
    return max(0, at)


def _end_of_word(text: str, at: int, big: bool) -> int:
    last = at
    at += 1
    while at < len(text) and not _kind(text[at], big):
        at += 1
    if at >= len(text):
        return last if not text[last + 1 :].strip() else len(text) - 1
    while at + 1 < len(text) and _kind(text[at + 1], big) == _kind(text[at], big):
        at += 1
    return at
