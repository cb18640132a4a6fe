"""`<|tool_call>call:name{key:<|"|>text<|"|>,other:1}<tool_call|>`: Gemma 4. Keys are bare, texts between own tokens.

FunctionGemma writes the same with other words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from localllm.api import ToolSpec
from localllm.text.tools.form import Shape, Sink, ToolFormat
from localllm.text.tools.json_text import compact, read_string
from localllm.text.tools.readers import read_name
from localllm.text.tools.source import MalformedCall, Reading, Source

OPEN = "<|tool_call>"
CLOSE = "<tool_call|>"
QUOTE = '<|"|>'
_KEY = re.compile(r"[^:{}\[\],<>\"]+")
_SCALAR = re.compile(r"[^,{}\[\]<>\"]+")
_MAX_DEPTH = 32


def read(source: Source, sink: Sink, _tools: Sequence[ToolSpec]) -> Reading[None]:
    """One call."""
    yield from source.expect(OPEN)
    yield from source.space()
    yield from source.expect("call:")
    sink.begin((yield from read_name(source)))
    yield from source.space()
    sink.arguments((yield from _object(source, 0)))
    sink.end()
    yield from source.space()
    yield from source.skip(CLOSE)


def _value(source: Source, depth: int) -> Reading[str]:
    """The JSON text of a value."""
    if depth > _MAX_DEPTH:
        raise MalformedCall
    yield from source.space()
    if (yield from source.skip(QUOTE)):
        return compact((yield from source.until(QUOTE)))
    char = yield from source.peek()
    if char == "{":
        return (yield from _object(source, depth))
    if char == '"':
        return compact((yield from read_string(source)))
    if char == "[":
        return (yield from _list(source, depth))
    word = (yield from source.run(_SCALAR, 4096)).strip()
    if not word:
        raise MalformedCall
    try:
        value = json.loads(word)
    except ValueError:
        value = word
    return compact(value)


def _object(source: Source, depth: int) -> Reading[str]:
    yield from source.expect("{")
    parts: list[str] = []
    yield from source.space()
    while not (yield from source.skip("}")):
        if (yield from source.skip(QUOTE)):
            key = yield from source.until(QUOTE)
        else:
            key = (yield from source.run(_KEY)).strip()
        yield from source.space()
        yield from source.expect(":")
        parts.append(compact(key) + ": " + (yield from _value(source, depth + 1)))
        yield from source.space()
        if not (yield from source.skip(",")) and not (yield from source.sees("}")):
            raise MalformedCall
        yield from source.space()
    return "{" + ", ".join(parts) + "}"


def _list(source: Source, depth: int) -> Reading[str]:
    yield from source.expect("[")
    parts: list[str] = []
    yield from source.space()
    while not (yield from source.skip("]")):
        parts.append((yield from _value(source, depth + 1)))
        yield from source.space()
        if not (yield from source.skip(",")) and not (yield from source.sees("]")):
            raise MalformedCall
        yield from source.space()
    return "[" + ", ".join(parts) + "]"


def gemma_text(value: Any) -> str:
    """A JSON value as Gemma spells it."""
    if isinstance(value, str):
        return QUOTE + value + QUOTE
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{gemma_text(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(gemma_text, value)) + "]"
    return json.dumps(value)


FORMAT = ToolFormat(
    "gemma",
    (OPEN,),
    Shape(begin=OPEN + "call:", middle="", end=CLOSE, separator="", arguments="gemma"),
    OPEN,
    (OPEN,),
    read,
    special=(OPEN, CLOSE, QUOTE),
)
