"""Families with markup of their own around a name and JSON: Functionary 3.1, Apertus, GigaChat 3.1, Solar Open."""

from __future__ import annotations

from collections.abc import Sequence

from localllm.api import ToolSpec
from localllm.text.tools.form import Shape, Sink, ToolFormat
from localllm.text.tools.json_text import read_string
from localllm.text.tools.readers import copy_arguments, read_json_calls, read_name, skip_all
from localllm.text.tools.source import Reading, Source

_FUNCTION = "<function="
_PREFIX = "<|tools_prefix|>"
_SUFFIX = "<|tools_suffix|>"
_CALL = "<|function_call|>"
_BEGIN = "<|tool_call:begin|>"
_NAME = "<|tool_call:name|>"
_ARGS = "<|tool_call:args|>"
_END = "<|tool_call:end|>"


def _read_function(source: Source, sink: Sink, _tools: Sequence[ToolSpec]) -> Reading[None]:
    yield from source.expect(_FUNCTION)
    sink.begin((yield from read_name(source)))
    yield from source.expect(">")
    yield from source.space()
    yield from copy_arguments(source, sink.arguments)
    sink.end()
    yield from skip_all(source, ("</function>",))


def _read_members(source: Source, sink: Sink, _tools: Sequence[ToolSpec]) -> Reading[None]:
    """A list of objects, each with a tool's name as its one key."""
    yield from source.expect(_PREFIX)
    yield from source.space()
    yield from source.expect("[")
    while True:
        yield from source.space()
        yield from source.expect("{")
        yield from source.space()
        sink.begin((yield from read_string(source)))
        yield from source.space()
        yield from source.expect(":")
        yield from source.space()
        yield from copy_arguments(source, sink.arguments)
        yield from source.space()
        yield from source.expect("}")
        sink.end()
        yield from source.space()
        if not (yield from source.skip(",")):
            break
    yield from skip_all(source, ("]", _SUFFIX))


def _read_call(source: Source, sink: Sink, _tools: Sequence[ToolSpec]) -> Reading[None]:
    yield from source.expect(_CALL)
    yield from read_json_calls(source, sink)


def _read_solar(source: Source, sink: Sink, _tools: Sequence[ToolSpec]) -> Reading[None]:
    yield from source.skip("<|tool_calls|>")
    yield from source.expect(_BEGIN)
    while True:
        yield from source.until(_NAME)
        name = yield from read_name(source)
        yield from source.expect(_ARGS)
        yield from source.space()
        sink.begin(name)
        yield from copy_arguments(source, sink.arguments)
        sink.end()
        yield from skip_all(source, (_END,))
        yield from source.space()
        if not (yield from source.skip(_BEGIN)):
            break
    yield from source.skip("<|calls|>")


FUNCTIONARY = ToolFormat(
    "functionary",
    (_FUNCTION, "</function>"),
    Shape(begin=_FUNCTION, middle=">", end="</function>", separator=""),
    _FUNCTION,
    (_FUNCTION,),
    _read_function,
)
APERTUS = ToolFormat(
    "apertus",
    (_PREFIX,),
    Shape(
        begin='{"',
        middle='": ',
        end="}",
        open=_PREFIX + "[",
        separator=", ",
        close="]" + _SUFFIX,
        name_in_json=True,
    ),
    _PREFIX,
    (_PREFIX,),
    _read_members,
    special=(_PREFIX, _SUFFIX),
)
GIGACHAT = ToolFormat(
    "gigachat",
    (_CALL,),
    Shape(begin=_CALL + '{"name": "', middle='", "arguments": ', end="}", separator="", name_in_json=True),
    _CALL,
    (_CALL,),
    _read_call,
    special=(_CALL,),
    one_call=True,
)
SOLAR = ToolFormat(
    "solar",
    (_BEGIN,),
    Shape(begin=_BEGIN + "call_{n}" + _NAME, middle=_ARGS, end=_END, open="<|tool_calls|>", separator=""),
    "<|tool_calls|>",
    ("<|tool_calls|>", _BEGIN),
    _read_solar,
    special=("<|tool_calls|>", "<|calls|>", _BEGIN, _NAME, _ARGS, _END),
)
