"""JSON as it arrives: checked character by character and passed on, never parsed by recursion.

What is passed on is valid JSON: a line end inside a string, which models write, becomes its escape.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

from localllm.text.tools.source import MalformedCall, Reading, Source

Emit = Callable[[str], object]

_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_WORD = re.compile(r"[-+.0-9A-Za-z]+")
_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null")
_SPACES = re.compile(r"[ \t\n\r]+")
_ESCAPES = frozenset('"\\/bfnrt')
_MAX_SCALAR_CHARS = 400
MAX_DEPTH = 512
MAX_PYTHON_CHARS = 64 * 1024
_CLOSING = {"{": "}", "[": "]"}


def copy_value(source: Source, emit: Emit) -> Reading[None]:
    """Read one JSON value; `emit` gets its text in pieces. Raises MalformedCall."""
    opened: list[str] = []  # the brackets that are open
    while True:
        char = yield from source.peek()
        if char in "{[":
            if len(opened) >= MAX_DEPTH:
                raise MalformedCall
            _take(source, emit, 1)
            opened.append(char)
            yield from _copy_space(source, emit)
            if (yield from source.peek()) != _CLOSING[char]:
                if char == "{":
                    yield from _copy_key(source, emit)
                continue
            _take(source, emit, 1)
            opened.pop()
        elif char == '"':
            yield from copy_string(source, emit)
        else:
            yield from _copy_scalar(source, emit)
        if (yield from _close(source, emit, opened)):
            return


def _close(source: Source, emit: Emit, opened: list[str]) -> Reading[bool]:
    """What follows a value: a comma and the next one, or the ends of what is open. True: all is read."""
    while opened:
        yield from _copy_space(source, emit)
        char = yield from source.peek()
        if char == ",":
            _take(source, emit, 1)
            yield from _copy_space(source, emit)
            if opened[-1] == "{":
                yield from _copy_key(source, emit)
            return False
        if char != _CLOSING[opened[-1]]:
            raise MalformedCall
        _take(source, emit, 1)
        opened.pop()
    return True


def _copy_key(source: Source, emit: Emit) -> Reading[None]:
    yield from copy_string(source, emit)
    yield from _copy_space(source, emit)
    if (yield from source.peek()) != ":":
        raise MalformedCall
    _take(source, emit, 1)
    yield from _copy_space(source, emit)


def copy_string(source: Source, emit: Emit) -> Reading[None]:
    """Read one JSON string with its quotes."""
    if (yield from source.peek()) != '"':
        raise MalformedCall
    _take(source, emit, 1)
    while True:
        if (match := _PLAIN.match(source.text, source.at)) is not None:
            _take(source, emit, match.end() - source.at)
        char = yield from source.peek()
        if char == '"':
            _take(source, emit, 1)
            return
        if char == "\\":
            yield from _copy_escape(source, emit)
        elif char < " ":
            source.at += 1
            emit(json.dumps(char)[1:-1])


def _copy_escape(source: Source, emit: Emit) -> Reading[None]:
    while len(source.text) - source.at < 2:
        yield from source.more()
    kind = source.text[source.at + 1]
    if kind == "u":
        while len(source.text) - source.at < 6:
            yield from source.more()
        if not _HEX.match(source.text, source.at + 2):
            raise MalformedCall
        _take(source, emit, 6)
    elif kind in _ESCAPES:
        _take(source, emit, 2)
    else:
        raise MalformedCall


def _copy_scalar(source: Source, emit: Emit) -> Reading[None]:
    word = yield from source.run(_WORD, _MAX_SCALAR_CHARS)
    if not _SCALAR.fullmatch(word):
        raise MalformedCall
    emit(word)


def _copy_space(source: Source, emit: Emit) -> Reading[None]:
    while True:
        if (match := _SPACES.match(source.text, source.at)) is not None:
            _take(source, emit, match.end() - source.at)
        if source.at < len(source.text):
            return
        yield from source.more()


def _take(source: Source, emit: Emit, size: int) -> None:
    emit(source.text[source.at : source.at + size])
    source.at += size


def read_value(source: Source) -> Reading[str]:
    """The text of one JSON value."""
    parts: list[str] = []
    yield from copy_value(source, parts.append)
    return "".join(parts)


def read_string(source: Source) -> Reading[str]:
    """What one JSON string says."""
    parts: list[str] = []
    yield from copy_string(source, parts.append)
    value: str = json.loads("".join(parts))
    return value


def parsed(text: str) -> Any:
    """The value of a JSON text. Raises MalformedCall; NaN and infinities are none."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise MalformedCall from exc


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def compact(value: Any) -> str:
    """A value as the arguments of a call spell it."""
    return json.dumps(value, ensure_ascii=False)


def python_value(text: str) -> Any:
    """A Python literal. Raises MalformedCall."""
    if len(text) > MAX_PYTHON_CHARS:
        raise MalformedCall
    try:
        value = ast.literal_eval(text.strip())
        compact(value)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as exc:
        raise MalformedCall from exc
    return value
