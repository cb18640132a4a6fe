"""`<|tool_call_begin|>functions.name:0<|tool_call_argument_begin|>{…}<|tool_call_end|>` in a section: Kimi K2."""

from __future__ import annotations

import re
from collections.abc import Sequence

from localllm.api import ToolSpec
from localllm.text.tools.form import Shape, Sink, ToolFormat
from localllm.text.tools.readers import copy_arguments, skip_all
from localllm.text.tools.source import MalformedCall, Reading, Source

OPEN = "<|tool_calls_section_begin|>"
CLOSE = "<|tool_calls_section_end|>"
BEGIN = "<|tool_call_begin|>"
MIDDLE = "<|tool_call_argument_begin|>"
END = "<|tool_call_end|>"
_ID = re.compile(r"[^<\s]+")
_OWN_ID = re.compile(r"functions\.[^\s:]+:[0-9]{1,4}")


def read(source: Source, sink: Sink, _tools: Sequence[ToolSpec]) -> Reading[None]:
    """All calls of a section, or one without a section."""
    yield from source.skip(OPEN)
    yield from source.space()
    yield from source.expect(BEGIN)
    while True:
        yield from source.space()
        call_id = yield from source.run(_ID)
        name = re.sub(r":[0-9]+$", "", call_id.removeprefix("functions."))
        if not name:
            raise MalformedCall
        yield from source.space()
        yield from source.expect(MIDDLE)
        yield from source.space()
        sink.begin(name, call_id)
        yield from copy_arguments(source, sink.arguments)
        sink.end()
        yield from skip_all(source, (END,))
        yield from source.space()
        if not (yield from source.skip(BEGIN)):
            break
    yield from source.skip(CLOSE)


FORMAT = ToolFormat(
    "kimi",
    (BEGIN, MIDDLE),
    Shape(begin=BEGIN + "functions.", middle=":{n}" + MIDDLE, end=END, open=OPEN, separator="", close=CLOSE),
    OPEN,
    (OPEN, BEGIN),
    read,
    special=(OPEN, CLOSE, BEGIN, MIDDLE, END),
    own_id=_OWN_ID,
    new_id=lambda name, number: f"functions.{name}:{number}",
    id_from=lambda _given, name, number: f"functions.{name}:{number}",
)
