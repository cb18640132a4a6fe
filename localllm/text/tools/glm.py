"""`<tool_call>name<arg_key>key</arg_key><arg_value>value</arg_value></tool_call>`: GLM 4.5 and later."""

from __future__ import annotations

from collections.abc import Sequence

from localllm.api import ToolSpec
from localllm.text.tools.form import Shape, Sink, Tags
from localllm.text.tools.readers import TaggedArguments, copy_arguments, read_name, skip_all, unwrapped
from localllm.text.tools.source import Reading, Source

SPECIAL = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
CLOSE = "</tool_call>"


def read_call(source: Source, sink: Sink, tools: Sequence[ToolSpec]) -> Reading[None]:
    """A name with its arguments, behind the opening tag."""
    name = yield from read_name(source)
    yield from source.space()
    if (yield from source.skip("```json")) or (yield from source.sees("{")):
        yield from source.space()
        sink.begin(name)
        yield from copy_arguments(source, sink.arguments)
        sink.end()
        yield from skip_all(source, ("```", CLOSE))
        return
    arguments = TaggedArguments(sink, name, tools)
    while (yield from source.skip("<arg_key>")):
        key = (yield from source.until("</arg_key>")).strip()
        yield from source.space()
        yield from source.expect("<arg_value>")
        arguments.add(key, unwrapped((yield from source.until("</arg_value>"))))
        yield from source.space()
    yield from source.expect(CLOSE)
    arguments.end()


SHAPE = Shape(
    begin="<tool_call>",
    middle="\n",
    end=CLOSE,
    arguments=Tags("<arg_key>", "</arg_key>\n<arg_value>", "", "</arg_value>", "\n"),
)
