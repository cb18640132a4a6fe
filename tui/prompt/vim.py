"""Vim keys as a state machine: a key, a text and a cursor give another text and cursor. Knows no widget.

What is there: h j k l w b e W B E 0 ^ $ gg G f F t T ; , with counts; d c y with each of these and with iw, aw,
doubled for lines; x X s S r J D C Y p P i a I A o O u ctrl+r. What is not a key of Vim's is the widget's.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from localllm_tui.prompt.vim_motions import (
    FINDS,
    MOTIONS,
    Motion,
    find,
    first_word,
    line_end,
    line_start,
    move,
    on_character,
    word_around,
    word_end,
)

Mode = Literal["normal", "insert"]
Effect = Literal["", "undo", "redo", "pass"]
MAX_COUNT = 9999


class Buffer(NamedTuple):
    """A text and the place of the cursor in it, in characters."""

    text: str
    cursor: int


class Vim(NamedTuple):
    """What Vim remembers between keys: the mode, keys of a command not complete yet, and what was cut or copied."""

    mode: Mode = "insert"
    keys: str = ""
    register: str = ""
    has_lines: bool = False
    goal: int | None = None
    found: str = ""


class Step(NamedTuple):
    """What a key did. `effect` "undo" and "redo" are the widget's to do, `times` times; "pass": not a key of Vim's."""

    vim: Vim
    buffer: Buffer
    effect: Effect = ""
    times: int = 1


def press(vim: Vim, buffer: Buffer, key: str) -> Step:
    """What `key` does: a character, or the name of a key such as "escape" or "ctrl+r"."""
    if vim.mode == "insert":
        if key != "escape":
            return Step(vim, buffer, "pass")
        start = line_start(buffer.text, buffer.cursor)
        return _moved(vim._replace(mode="normal", keys=""), buffer.text, max(start, buffer.cursor - 1))
    if key == "escape":
        return Step(vim._replace(keys=""), buffer, "" if vim.keys else "pass")
    if key == "ctrl+r":
        return Step(vim._replace(keys=""), buffer, "redo", _count(vim.keys)[0] or 1)
    if len(key) != 1:
        return Step(vim._replace(keys="", goal=None), buffer, "pass")
    at = on_character(buffer.text, buffer.cursor)
    keys = vim.keys + key
    count, operator, rest = _split(keys)
    if not rest or rest == "g" or (len(rest) == 1 and rest in (FINDS | ({"i", "a"} if operator else {"r"}))):
        return Step(vim._replace(keys=keys), buffer)
    vim = vim._replace(keys="")
    if operator:
        return _operate(vim, buffer.text, at, operator, rest, count=count)
    if rest[0] in FINDS or rest in MOTIONS:
        return _go(vim, buffer.text, at, rest, count)
    return _command(vim, buffer.text, at, rest, count)


def _count(keys: str) -> tuple[int | None, str]:
    digits = len(keys) - len(keys.lstrip("0123456789")) if keys[:1] not in {"", "0"} else 0
    return (min(int(keys[: min(digits, 9)]), MAX_COUNT) if digits else None), keys[digits:]


def _split(keys: str) -> tuple[int | None, str, str]:
    """Count, operator (or "") and the rest of a command; counts before and behind an operator multiply."""
    count, rest = _count(keys)
    if rest[:1] not in {"d", "c", "y"}:
        return count, "", rest
    more, behind = _count(rest[1:])
    both = None if count is None and more is None else min((count or 1) * (more or 1), MAX_COUNT)
    return both, rest[0], behind


def _moved(vim: Vim, text: str, at: int) -> Step:
    return Step(vim._replace(goal=None), Buffer(text, on_character(text, at)))


def _motion(vim: Vim, text: str, at: int, keys: str, count: int | None) -> tuple[Vim, Motion | None]:
    """Where a motion leads, with what finding it leaves to be repeated."""
    if keys[0] in FINDS:
        return vim._replace(found=keys), find(text, at, keys[0], keys[1], count or 1)
    if keys in {";", ","}:
        if not vim.found:
            return vim, None
        key = vim.found[0] if keys == ";" else vim.found[0].swapcase()
        return vim, find(text, at, key, vim.found[1], count or 1, again=True)
    return vim, move(text, at, keys, count, goal=vim.goal)


def _go(vim: Vim, text: str, at: int, keys: str, count: int | None) -> Step:
    goal = vim.goal if vim.goal is not None else at - line_start(text, at)
    vim, motion = _motion(vim, text, at, keys, count)
    if motion is None:
        return Step(vim, Buffer(text, at))
    step = _moved(vim, text, motion.target)
    return step._replace(vim=step.vim._replace(goal=goal)) if keys in {"j", "k"} else step


def _operate(vim: Vim, text: str, at: int, operator: str, keys: str, *, count: int | None) -> Step:
    """An operator over a motion, or over whole lines where its key comes twice."""
    if keys == operator:
        below = move(text, at, "j", (count or 1) - 1) if (count or 1) > 1 else None
        return _lines(vim, text, at, below.target if below else at, operator)
    if keys in {"iw", "aw"} and at < line_end(text, at):
        return _span(vim, text, *word_around(text, at, blanks=keys == "aw"), operator)
    if keys[0] not in FINDS and keys not in MOTIONS:
        return Step(vim, Buffer(text, at))
    if operator == "c" and keys in {"w", "W"} and text[at : at + 1].strip():
        motion = Motion(word_end(text, at, count or 1, big=keys == "W"), "inclusive")
    else:
        vim, found = _motion(vim._replace(goal=None), text, at, keys, count)
        if found is None:
            return Step(vim, Buffer(text, at))
        motion = found
    if motion.extent == "lines":
        return _lines(vim, text, min(at, motion.target), max(at, motion.target), operator)
    start, end = sorted((at, motion.target))
    end += motion.extent == "inclusive"
    if keys in {"w", "W"}:
        ahead = text[start:end].rstrip(" \t")
        end = start + len(ahead) - 1 if ahead.endswith("\n") else end
    return _span(vim, text, start, end, operator)


def _span(vim: Vim, text: str, start: int, end: int, operator: str) -> Step:
    vim = vim._replace(register=text[start:end], has_lines=False)
    if operator == "y":
        return _moved(vim, text, start)
    text = text[:start] + text[end:]
    return _insert(vim, text, start) if operator == "c" else _moved(vim, text, start)


def _lines(vim: Vim, text: str, first: int, last: int, operator: str) -> Step:
    start, end = line_start(text, first), line_end(text, last)
    vim = vim._replace(register=text[start:end] + "\n", has_lines=True)
    if operator == "y":
        return _moved(vim, text, first)
    if operator == "c":
        return _insert(vim, text[:start] + text[end:], start)
    text = text[:start] + text[end + 1 :] if end < len(text) else text[: max(0, start - 1)]
    return _moved(vim, text, first_word(text, min(start, len(text))))


def _insert(vim: Vim, text: str, at: int) -> Step:
    return Step(vim._replace(mode="insert", goal=None), Buffer(text, at))


def _command(vim: Vim, text: str, at: int, keys: str, count: int | None) -> Step:
    times, start, end = count or 1, line_start(text, at), line_end(text, at)
    match keys:
        case "i":
            return _insert(vim, text, at)
        case "a":
            return _insert(vim, text, min(at + 1, end))
        case "I":
            return _insert(vim, text, first_word(text, at))
        case "A":
            return _insert(vim, text, end)
        case "o":
            return _insert(vim, f"{text[:end]}\n{text[end:]}", end + 1)
        case "O":
            return _insert(vim, f"{text[:start]}\n{text[start:]}", start)
        case "x" | "s":
            return _span(vim, text, at, min(at + times, end), "d" if keys == "x" else "c")
        case "X":
            return _span(vim, text, max(start, at - times), at, "d")
        case "D" | "C":
            return _span(vim, text, at, end, keys.lower())
        case "S" | "Y":
            operator = "c" if keys == "S" else "y"
            return _operate(vim, text, at, operator, operator, count=count)
        case "p" | "P":
            return _put(vim, text, at, times, before=keys == "P")
        case "J":
            return _join(vim, text, at, max(times - 1, 1))
        case "u":
            return Step(vim, Buffer(text, at), "undo", times)
        case _ if keys[0] == "r" and at + times <= end:
            return _moved(vim, text[:at] + keys[1] * times + text[at + times :], at + times - 1)
        case _:
            return Step(vim, Buffer(text, at))


def _put(vim: Vim, text: str, at: int, times: int, *, before: bool) -> Step:
    if not vim.register:
        return Step(vim, Buffer(text, at))
    what = vim.register * times
    if not vim.has_lines:
        place = at if before or line_end(text, at) == line_start(text, at) else at + 1
        return _moved(vim, text[:place] + what + text[place:], place + len(what) - 1)
    if before:
        place = line_start(text, at)
        return _moved(vim, text[:place] + what + text[place:], first_word(text[:place] + what, place))
    end = line_end(text, at)
    text = f"{text[:end]}\n{what[:-1]}{text[end:]}"
    return _moved(vim, text, first_word(text, end + 1))


def _join(vim: Vim, text: str, at: int, times: int) -> Step:
    place = at
    for _ in range(times):
        end = line_end(text, at)
        if end == len(text):
            break
        ahead, behind = text[:end].rstrip(" \t"), text[end + 1 :].lstrip(" \t")
        between = " " if behind[:1] not in {"", "\n", ")"} and not ahead.endswith("\n") and ahead else ""
        text, place = ahead + between + behind, len(ahead)
    return _moved(vim, text, place)
