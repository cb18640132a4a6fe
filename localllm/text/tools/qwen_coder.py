"""`<function=name><parameter=key>value</parameter></function>` inside a tag: Qwen3-Coder, Nemotron 3, Seed-OSS."""

from __future__ import annotations

import re
from collections.abc import Sequence

from localllm.api import ToolSpec
from localllm.text.tools.form import Shape, Sink, Tags
from localllm.text.tools.readers import TaggedArguments, unwrapped
from localllm.text.tools.source import MalformedCall, Reading, Source

FUNCTION = "<function="
PARAMETER = "<parameter="
SEED_OPEN = "<seed:tool_call>"
SEED_CLOSE = "</seed:tool_call>"
_NAME = re.compile(r"[^>\n<]+")


def read_function(source: Source, sink: Sink, tools: Sequence[ToolSpec]) -> Reading[None]:
    """One function with its parameters."""
    yield from source.expect(FUNCTION)
    arguments = TaggedArguments(sink, (yield from _name(source)), tools)
    yield from source.space()
    while (yield from source.skip(PARAMETER)):
        key = yield from _name(source)
        arguments.add(key, unwrapped((yield from source.until("</parameter>"))))
        yield from source.space()
    yield from source.expect("</function>")
    arguments.end()


def read_seed(source: Source, sink: Sink, tools: Sequence[ToolSpec]) -> Reading[None]:
    """The same within Seed's tag."""
    yield from source.expect(SEED_OPEN)
    yield from source.space()
    yield from read_function(source, sink, tools)
    yield from source.space()
    yield from source.skip(SEED_CLOSE)


def _name(source: Source) -> Reading[str]:
    name = (yield from source.run(_NAME)).strip()
    yield from source.expect(">")
    if not name:
        raise MalformedCall
    return name


TAGS = Tags(PARAMETER, ">\n", "\n", "</parameter>", "\n")
SHAPE = Shape(begin="<tool_call>\n<function=", middle=">\n", end="</function>\n</tool_call>", arguments=TAGS)
SEED_SHAPE = Shape(begin=f"{SEED_OPEN}\n{FUNCTION}", middle=">\n", end=f"</function>\n{SEED_CLOSE}", arguments=TAGS)
