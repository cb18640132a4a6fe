"""DeepSeek: `<｜tool▁calls▁begin｜>` with calls of V3 and R1 (a JSON block each), or of V3.1 (a name and JSON).

V3.2 writes its parameters between tags; see invoke.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from localllm.api import ToolSpec
from localllm.text.tools.form import Shape, Sink, ToolFormat
from localllm.text.tools.readers import copy_arguments, skip_all
from localllm.text.tools.source import MalformedCall, Reading, Source

OPEN = "<｜tool▁calls▁begin｜>"
CLOSE = "<｜tool▁calls▁end｜>"
BEGIN = "<｜tool▁call▁begin｜>"
MIDDLE = "<｜tool▁sep｜>"
END = "<｜tool▁call▁end｜>"
SPECIAL = (OPEN, CLOSE, BEGIN, MIDDLE, END)
_WORD = re.compile(r"[^<\n`{]+")


def read(source: Source, sink: Sink, _tools: Sequence[ToolSpec]) -> Reading[None]:
    """All calls of a section, or one without a section."""
    yield from source.skip(OPEN)
    yield from source.space()
    yield from source.expect(BEGIN)
    while True:
        yield from _read_call(source, sink)
        yield from source.space()
        if not (yield from source.skip(BEGIN)):
            break
    yield from source.skip(CLOSE)


def _read_call(source: Source, sink: Sink) -> Reading[None]:
    name = yield from source.run(_WORD)
    yield from source.expect(MIDDLE)
    yield from source.space()
    if (yield from source.peek()) != "{":
        name = yield from source.run(_WORD)  # the first word was the kind of call
    if not (name := name.strip()):
        raise MalformedCall
    yield from skip_all(source, ("```json",))
    yield from source.space()
    sink.begin(name)
    yield from copy_arguments(source, sink.arguments)
    sink.end()
    yield from skip_all(source, ("```", END))


V3 = ToolFormat(
    "deepseek",
    (OPEN, "```json"),
    Shape(
        begin=f"{BEGIN}function{MIDDLE}",
        middle="\n```json\n",
        end=f"\n```{END}",
        open=OPEN,
        separator="\n",
        close=CLOSE,
    ),
    OPEN,
    (OPEN, BEGIN),
    read,
    special=SPECIAL,
)
V31 = ToolFormat(
    "deepseek_v31",
    (OPEN,),
    Shape(begin=BEGIN, middle=MIDDLE, end=END, open=OPEN, separator="", close=CLOSE),
    OPEN,
    (OPEN, BEGIN),
    read,
    special=SPECIAL,
)
