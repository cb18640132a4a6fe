"""`{"name": …, "parameters": {…}}` as the whole answer, or behind `<|python_tag|>`: Llama 3.1 to 3.3.

Behind the tag stand also calls of the built-in tools, `name.call(key="value")`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from localllm.api import ToolSpec
from localllm.text.tools.form import Shape, Sink, ToolFormat
from localllm.text.tools.json_text import compact, read_value
from localllm.text.tools.readers import read_json_calls, read_name
from localllm.text.tools.source import MalformedCall, Reading, Source

TAG = "<|python_tag|>"
_KEY = re.compile(r"\w+")


def read(source: Source, sink: Sink, _tools: Sequence[ToolSpec]) -> Reading[None]:
    """What follows the tag."""
    yield from source.expect(TAG)
    yield from source.space()
    if (yield from source.peek()) in "{[":
        yield from read_json_calls(source, sink)
    else:
        yield from _read_builtin(source, sink)


def read_bare(source: Source, sink: Sink, tools: Sequence[ToolSpec]) -> Reading[None]:
    """An answer that is a call of a known tool."""
    yield from read_json_calls(source, sink, only={tool.name for tool in tools})


def _read_builtin(source: Source, sink: Sink) -> Reading[None]:
    name, dot, method = (yield from read_name(source)).rpartition(".")
    if not dot or method != "call":
        raise MalformedCall
    yield from source.expect("(")
    sink.begin(name)
    start = "{"
    yield from source.space()
    while not (yield from source.skip(")")):
        key = yield from source.run(_KEY)
        yield from source.expect("=")
        sink.arguments(start + compact(key) + ": " + (yield from read_value(source)))
        start = ", "
        yield from source.space()
        yield from source.skip(",")
        yield from source.space()
    sink.arguments("{}" if start == "{" else "}")
    sink.end()


SHAPE = Shape(begin='{"name": "', middle='", "parameters": ', end="}", separator="; ", name_in_json=True)
FORMAT = ToolFormat(
    "llama3",
    ("<|start_header_id|>", '"parameters": '),
    SHAPE,
    '{"name": "',
    (TAG,),
    read,
    special=(TAG,),
    read_bare=read_bare,
    anywhere=False,
    one_call=True,
)
LLAMA4 = dataclasses.replace(FORMAT, name="llama4", marks=("<|header_start|>", '"parameters": '))
