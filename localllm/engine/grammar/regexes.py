"""Regular expressions in Rust's syntax, looked over before native code parses them. Owns caps, no meaning."""

from __future__ import annotations

import re

from localllm.engine.grammar.limits import (
    MAX_NESTED_REPEATS,
    MAX_PATTERN_DEPTH,
    MAX_REPEATS,
    MAX_VALUE_BYTES,
    refuse,
    within,
)

_COUNT = re.compile(r"\{\s*(\d*)\s*(,?)\s*(\d*)\s*\}")
_FLAGS = re.compile(r"\?([a-zA-Z]*(?:-[a-zA-Z]*)?)[:)]")
_LOOK = re.compile(r"\?(?:<?[=!])")


def check_regex(text: str) -> None:
    """Raise InvalidRequestError for an expression nested too deep, or whose bounds multiply to too much."""
    within(len(text.encode("utf-8", "replace")), MAX_VALUE_BYTES, "a regular expression of too many bytes")
    # How often bounds repeat a part of each group that is open; of the last thing that was closed or read.
    open_groups = [1]
    last = 1
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at = _after_escape(text, at)
            last = 1
        elif char == "[":
            at = _after_class(text, at)
            last = 1
        elif char == "(":
            _check_group(text, at + 1)
            open_groups.append(1)
            within(len(open_groups), MAX_PATTERN_DEPTH, "a regular expression with too many groups inside each other")
            at += 1
        elif char == ")":
            if len(open_groups) == 1:
                refuse("a regular expression with an unmatched )")
            last = open_groups.pop()
            open_groups[-1] = max(open_groups[-1], last)
            at += 1
        elif char == "{" and (count := _COUNT.match(text, at)) is not None:
            last *= _bound(count)
            within(last, MAX_NESTED_REPEATS, "a regular expression whose bounds multiply to too much")
            open_groups[-1] = max(open_groups[-1], last)
            at = count.end()
        else:
            last = last if char in "*+?" else 1
            at += 1
    if len(open_groups) > 1:
        refuse("a regular expression with a group without its end")


def _check_group(text: str, at: int) -> None:
    if _LOOK.match(text, at):
        refuse("a regular expression with look-around", hint="say it with what may be there instead of what may not")
    flags = _FLAGS.match(text, at)
    if flags is not None and set(flags[1]) - set("imsU-"):
        refuse(f"the flags (?{flags[1]}) in a regular expression", hint="i, m, s and U are known")


def _bound(count: re.Match[str]) -> int:
    digits = (count[1] + count[3]) or "0"
    if len(digits) > 12:
        refuse(f"the bounds {count[0][:40]}", hint=f"at most {MAX_REPEATS}")
    most = max(int(count[1] or 0), int(count[3] or 0), 1)
    within(most, MAX_REPEATS, "a regular expression with too high a bound")
    return most


def _after_escape(text: str, at: int) -> int:
    if text[at + 1 : at + 2] in ("p", "P", "x", "u", "U") and text[at + 2 : at + 3] == "{":
        end = text.find("}", at)
        return len(text) if end < 0 else end + 1
    return at + 2


def _after_class(text: str, at: int) -> int:
    """The place behind a [class]; classes may hold classes."""
    depth = 0
    while True:
        char = text[at : at + 1]
        if not char:
            refuse("a regular expression with a [ without its ]")
        if char == "\\":
            at = _after_escape(text, at)
            continue
        if char == "[":
            depth += 1
            within(depth, MAX_PATTERN_DEPTH, "a regular expression with too many classes inside each other")
            # A ] right at the start of a class stands for itself.
            at += 1 + (text[at + 1 : at + 2] == "^")
            if text[at : at + 1] == "]":
                at += 1
            continue
        at += 1
        if char == "]":
            depth -= 1
            if depth == 0:
                return at
