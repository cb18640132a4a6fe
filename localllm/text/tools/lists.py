"""A JSON list of calls behind a tag: Granite 3, Phi-4-mini, Command-R, Nemotron v2, Apriel, Firefunction."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from localllm.api import ToolSpec
from localllm.text.tools import hermes
from localllm.text.tools.form import Reader, Shape, Sink, ToolFormat
from localllm.text.tools.readers import read_json_calls
from localllm.text.tools.source import Reading, Source


def _reader(opened: str, closers: tuple[str, ...]) -> Reader:
    def read(source: Source, sink: Sink, _tools: Sequence[ToolSpec]) -> Reading[None]:
        yield from source.expect(opened)
        yield from read_json_calls(source, sink, closers=closers)

    return read


def _read_tool_calls(source: Source, sink: Sink, tools: Sequence[ToolSpec]) -> Reading[None]:
    """JSON behind the tag, or calls with tags of their own, as Hunyuan has them."""
    yield from source.expect("<tool_calls>")
    yield from source.space()
    if not (yield from source.sees(hermes.OPEN)):
        yield from read_json_calls(source, sink, closers=("</tool_calls>",))
        return
    while (yield from source.sees(hermes.OPEN)):
        yield from hermes.read(source, sink, tools)
        yield from source.space()
    yield from source.skip("</tool_calls>")


def _list(name: str, opened: str, *closers: str, close: str | None = None) -> ToolFormat:
    """A list of objects with `name` and `arguments`, between `opened` and the first of `closers`."""
    shape = Shape(
        begin='{"name": "',
        middle='", "arguments": ',
        end="}",
        open=opened + "[",
        separator=", ",
        close="]" + (closers[0] if close is None else close),
        name_in_json=True,
    )
    special = (opened, *closers)
    return ToolFormat(name, (opened,), shape, opened, (opened,), _reader(opened, closers), special=special)


GRANITE = _list("granite", "<|tool_call|>", "<|/tool_call|>", close="")
NEMOTRON = _list("nemotron", "<TOOLCALL>", "</TOOLCALL>")
APRIEL = dataclasses.replace(_list("apriel", "<tool_calls>", "</tool_calls>"), read=_read_tool_calls)
FIREFUNCTION = _list("firefunction", "functools", close="")

_ACTION = "<|START_ACTION|>"
_END_ACTION = "<|END_ACTION|>"
COMMAND = ToolFormat(
    "command_r7b",
    (_ACTION,),
    Shape(
        begin='    {"tool_call_id": "{n}", "tool_name": "',
        middle='", "parameters": ',
        end="}",
        open=_ACTION + "[\n",
        separator=",\n",
        close="\n]" + _END_ACTION,
        name_in_json=True,
    ),
    _ACTION,
    (_ACTION,),
    _reader(_ACTION, (_END_ACTION,)),
    special=(_ACTION, _END_ACTION),
)
_PLAN = "Action:"


def _read_plan(source: Source, sink: Sink, _tools: Sequence[ToolSpec]) -> Reading[None]:
    yield from source.expect(_PLAN)
    yield from source.space()
    yield from source.expect("```json")
    yield from read_json_calls(source, sink, closers=("```",))


COMMAND_R = ToolFormat(
    "command_r",
    (_PLAN, "tool_name", "<|CHATBOT_TOKEN|>"),
    Shape(
        begin='    {\n        "tool_name": "',
        middle='",\n        "parameters": ',
        end="\n    }",
        open=_PLAN + "\n```json\n[\n",
        separator=",\n",
        close="\n]\n```",
        name_in_json=True,
    ),
    _PLAN + "\n```json\n",
    (_PLAN,),
    _read_plan,
)
