"""Readers that several families share: calls as JSON objects, a name followed by JSON, arguments between tags."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from localllm.api import ToolSpec
from localllm.text.tools.form import Sink
from localllm.text.tools.json_text import Emit, compact, copy_value, parsed, python_value, read_string, read_value
from localllm.text.tools.source import MalformedCall, Reading, Source

NAME = re.compile(r"[^\s<>\"'{}\[\](),;]+")


class Keys(NamedTuple):
    """What a call's object calls its parts."""

    name: tuple[str, ...] = ("name", "function", "tool_name")
    arguments: tuple[str, ...] = ("arguments", "parameters", "args", "input")
    id: tuple[str, ...] = ("id", "tool_call_id", "call_id")


KEYS = Keys()


def read_json_calls(
    source: Source, sink: Sink, *, closers: Sequence[str] = (), only: Collection[str] | None = None
) -> Reading[None]:
    """One object, several after each other, or a list; then whatever of `closers` comes.

    `only`: nothing marks these as calls but their form and a known name.
    """
    yield from source.space()
    is_list = yield from source.skip("[")
    while True:
        yield from source.space()
        yield from read_object(source, sink, only)
        yield from source.space()
        if is_list:
            if (yield from source.skip(",")):
                continue
            yield from source.skip("]")
            break
        if (yield from source.skip(";")) or (yield from source.sees("{")):
            continue
        break
    yield from skip_all(source, closers)


def skip_all(source: Source, closers: Sequence[str]) -> Reading[None]:
    """Read each of `closers` that comes, with the space before it."""
    for closer in closers:
        yield from source.space()
        yield from source.skip(closer)


def read_object(source: Source, sink: Sink, only: Collection[str] | None = None) -> Reading[None]:
    """One call as a JSON object: its name, its arguments, perhaps its id; other members mean nothing."""
    yield from source.expect("{")
    name: str | None = None
    call_id: str | None = None
    parts: list[str] = []
    begun = nested = False
    while True:
        yield from source.space()
        key = yield from read_string(source)
        yield from source.space()
        yield from source.expect(":")
        yield from source.space()
        if key == "function" and (yield from source.peek()) == "{" and name is None:
            yield from read_object(source, sink, only)
            nested = True
        elif key in KEYS.name and name is None:
            name = yield from read_string(source)
            if only is not None and name not in only:
                raise MalformedCall
        elif key in KEYS.arguments and not (begun or parts):
            if name is not None:
                sink.begin(name, call_id)
                begun = True
            yield from copy_arguments(source, sink.arguments if begun else parts.append)
        elif key in KEYS.id:
            value = parsed((yield from read_value(source)))
            call_id = value if isinstance(value, str) and value else None
        elif only is not None and key != "type":
            raise MalformedCall
        else:
            yield from read_value(source)
        yield from source.space()
        if not (yield from source.skip(",")):
            break
    yield from source.expect("}")
    if nested:
        return
    if name is None or not name or (only is not None and not (begun or parts)):
        raise MalformedCall
    if not begun:
        sink.begin(name, call_id)
        sink.arguments("".join(parts) or "{}")
    sink.end(call_id)


def copy_arguments(source: Source, emit: Emit) -> Reading[None]:
    """Arguments: a JSON object, an object inside a JSON string, or null, which is none."""
    char = yield from source.peek()
    if char == "{":
        yield from copy_value(source, emit)
    elif char == '"':
        text = yield from read_string(source)
        if not text.strip():
            text = "{}"
        if not isinstance(parsed(text), dict):
            raise MalformedCall
        emit(text)
    else:
        yield from source.expect("null")
        emit("{}")


def read_name(source: Source) -> Reading[str]:
    """A name that stands in the open."""
    name = yield from source.run(NAME)
    if not name:
        raise MalformedCall
    return name


class TaggedArguments:
    """The arguments of one call as they come between tags, put together as JSON."""

    def __init__(self, sink: Sink, name: str, tools: Sequence[ToolSpec]) -> None:
        self._sink = sink
        self._seen: set[str] = set()
        parameters = next((tool.parameters for tool in tools if tool.name == name), {})
        properties = parameters.get("properties")
        self._properties: dict[str, Any] = properties if isinstance(properties, dict) else {}
        sink.begin(name)

    def add(self, key: str, text: str, *, is_string: bool | None = None) -> None:
        """An argument as text; what it is its schema says, or `is_string`, or how it looks."""
        if key in self._seen:
            raise MalformedCall
        start = ", " if self._seen else "{"
        self._seen.add(key)
        value = compact(text) if is_string else _typed(text, self._properties.get(key), guess=is_string is None)
        self._sink.arguments(start + compact(key) + ": " + value)

    def end(self) -> None:
        """The call is whole."""
        self._sink.arguments("}" if self._seen else "{}")
        self._sink.end()


def unwrapped(text: str) -> str:
    """A value without the line end on either side that belongs to its tags."""
    text = text.removeprefix("\n")
    return text.removesuffix("\n")


def _typed(text: str, schema: object, *, guess: bool) -> str:
    """The JSON text of an argument."""
    kinds = _kinds(schema, 0) if guess else frozenset({"any"})
    if kinds == {"string"}:
        return compact(text)
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return compact(text if "string" in kinds else _python(text))
    if isinstance(value, str) and text.strip().startswith('"') and "string" in kinds:
        return compact(text)  # quotes that are part of the value
    if not isinstance(value, str) and "string" in kinds and not kinds & {_kind(value), "any"}:
        return compact(text)
    return compact(value)


def _python(text: str) -> Any:
    """A value that a model wrote as Python would print it, or the text itself."""
    if text.strip() not in ("True", "False", "None") and text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return python_value(text)
    except MalformedCall:
        return text


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, dict) else "array" if isinstance(value, list) else "null"


def _kinds(schema: object, depth: int) -> frozenset[str]:
    """Which types a schema names, roughly; "any" where it leaves that open."""
    if not isinstance(schema, dict) or depth > 8:
        return frozenset({"any"})
    kinds = schema.get("type")
    if isinstance(kinds, str):
        kinds = [kinds]
    if isinstance(kinds, list):
        return frozenset("number" if kind == "integer" else str(kind) for kind in kinds)
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(values, list):
        return frozenset(map(_kind, values))
    for name in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(name), list):
            return frozenset().union(*(_kinds(option, depth + 1) for option in options))
    return frozenset({"any"})
