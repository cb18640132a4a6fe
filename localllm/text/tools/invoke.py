"""`<invoke name="…"><parameter name="…">value</parameter></invoke>` inside a tag: MiniMax M2, DeepSeek V3.2."""

from __future__ import annotations

import re
from collections.abc import Sequence

from localllm.api import ToolSpec
from localllm.text.tools.form import Reader, Shape, Sink, Tags, ToolFormat
from localllm.text.tools.readers import TaggedArguments, unwrapped
from localllm.text.tools.source import MalformedCall, Reading, Source

_QUOTED = re.compile(r'[^"\n]+')
_DSML = "｜DSML｜"


def _format(name: str, marks: tuple[str, ...], section: str, prefix: str, *attributes: str) -> ToolFormat:
    """A family that puts `prefix` before its tags, and says of a parameter whether it is text (`attributes`)."""
    opened, closed = f"<{section}>", f"</{section}>"
    read = _reader(opened, closed, prefix)
    middles = [f'"{attribute}>' for attribute in attributes] or ['">']
    shape = Shape(
        begin=f'<{prefix}invoke name="',
        middle='">\n',
        end=f"</{prefix}invoke>\n",
        open=opened + "\n",
        separator="",
        close=closed,
        arguments=Tags(f'<{prefix}parameter name="', middles[0], "", f"</{prefix}parameter>", "\n", middles[-1]),
    )
    return ToolFormat(name, marks, shape, opened, (opened,), read, special=(opened, closed))


def _reader(opened: str, closed: str, prefix: str) -> Reader:
    def read(source: Source, sink: Sink, tools: Sequence[ToolSpec]) -> Reading[None]:
        yield from source.expect(opened)
        yield from source.space()
        yield from source.expect(f'<{prefix}invoke name="')
        while True:
            arguments = TaggedArguments(sink, (yield from _name(source)), tools)
            yield from source.expect(">")
            yield from source.space()
            while (yield from source.skip(f'<{prefix}parameter name="')):
                key = yield from _name(source)
                said = yield from source.until(">")
                is_string = {' string="true"': True, ' string="false"': False}.get(said)
                text = yield from source.until(f"</{prefix}parameter>")
                arguments.add(key, text if is_string else unwrapped(text), is_string=is_string)
                yield from source.space()
            yield from source.expect(f"</{prefix}invoke>")
            arguments.end()
            yield from source.space()
            if not (yield from source.skip(f'<{prefix}invoke name="')):
                break
        yield from source.skip(closed)

    return read


def _name(source: Source) -> Reading[str]:
    name = (yield from source.run(_QUOTED)).strip()
    yield from source.expect('"')
    if not name:
        raise MalformedCall
    return name


MINIMAX = _format("minimax", ("minimax:tool_call",), "minimax:tool_call", "")
_TYPED = (' string="true"', ' string="false"')
DEEPSEEK_V32 = _format("deepseek_v32", (_DSML,), f"{_DSML}function_calls", _DSML, *_TYPED)
DEEPSEEK_V4 = _format("deepseek_v4", (_DSML, "tool_calls>"), f"{_DSML}tool_calls", _DSML, *_TYPED)
