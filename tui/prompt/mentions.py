"""Where a text names files: `@path`, `@"a path with spaces"`, `@src/**/*.py`. Pure; looks at no disk."""

from __future__ import annotations

import re
from typing import NamedTuple

# Behind a letter it is an address, behind a backslash or a backtick it is meant literally.
_BEGIN = r"(?<![^\s(\[{,;:=])@"
_MENTION = re.compile(_BEGIN + r"(?:\"([^\"\n]+)\"|((?:\\ |[^\s\"'`(){}<>,;|@])+))")
_BEGUN = re.compile(_BEGIN + r"(?:\"([^\"\n]*)|((?:\\ |[^\s\"'`(){}<>,;|@])*))$")
_FENCED = re.compile(r"^ {0,3}(`{3,}|~{3,})[^\n]*\n.*?(?:^ {0,3}\1|\Z)", re.MULTILINE | re.DOTALL)
_END = ".,;:!?"
MAX_MENTIONS = 50


class Mention(NamedTuple):
    """A place in a text, from the `@` on, that names `pattern`."""

    start: int
    end: int
    pattern: str


def mentions(text: str) -> tuple[Mention, ...]:
    """The first 50 mentions outside of fenced code; punctuation at the end belongs to the sentence."""
    if "@" not in text:
        return ()
    fences = [found.span() for found in _FENCED.finditer(text)]
    found: list[Mention] = []
    for match in _MENTION.finditer(text):
        if any(start <= match.start() < end for start, end in fences):
            continue
        quoted, bare = match.groups()
        pattern = quoted if quoted is not None else _without_end(bare)
        if pattern and len(found) < MAX_MENTIONS:
            end = match.end() if quoted is not None else match.start() + 1 + len(pattern)
            found.append(Mention(match.start(), end, pattern.replace("\\ ", " ")))
    return tuple(found)


def begun(text: str, cursor: int) -> Mention | None:
    """The mention that is being typed, from its `@` to the cursor; its pattern may be empty."""
    start = text.rfind("\n", 0, cursor) + 1
    match = _BEGUN.search(text, start, cursor)
    if match is None or any(a <= match.start() < b for a, b in (found.span() for found in _FENCED.finditer(text))):
        return None
    quoted, bare = match.groups()
    return Mention(match.start(), cursor, quoted if quoted is not None else bare.replace("\\ ", " "))


def spelled(pattern: str, *, is_open: bool = False) -> str:
    """A mention of `pattern`, in quotes where they are needed; `is_open` leaves the end to be typed on."""
    found = _MENTION.fullmatch("@" + pattern)
    if found and found[2] and _without_end(pattern) == pattern and "\\ " not in pattern:
        return "@" + pattern
    return f'@"{pattern}' + ("" if is_open else '"')


def without(text: str, pattern: str) -> str:
    """The text without its mentions of `pattern`, and without the double blanks that leaves."""
    for mention in reversed(mentions(text)):
        if mention.pattern == pattern:
            before, after = text[: mention.start], text[mention.end :]
            if after.startswith(" ") and (not before or before[-1].isspace()):
                after = after[1:]
            text = before + after
    return text


def _without_end(pattern: str) -> str:
    return pattern if set(pattern) <= {"."} else pattern.rstrip(_END)
