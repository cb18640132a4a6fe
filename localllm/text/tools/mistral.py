"""`[TOOL_CALLS][{"name": …, "arguments": …, "id": …}]`, and since 2025 `[TOOL_CALLS]name[ARGS]{…}`: Mistral."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from collections.abc import Sequence

from localllm.api import ToolSpec
from localllm.text.tools.form import Shape, Sink, ToolFormat
from localllm.text.tools.readers import copy_arguments, read_json_calls, read_name
from localllm.text.tools.source import Reading, Source

OPEN = "[TOOL_CALLS]"
ARGS = "[ARGS]"
ID = "[CALL_ID]"
_OWN_ID = re.compile(r"[a-zA-Z0-9]{9}")


def read(source: Source, sink: Sink, _tools: Sequence[ToolSpec]) -> Reading[None]:
    """Either form."""
    yield from source.expect(OPEN)
    yield from source.space()
    if (yield from source.peek()) in "{[":
        yield from read_json_calls(source, sink)
        return
    name = yield from read_name(source)
    call_id = None
    if (yield from source.skip(ID)):
        call_id = yield from read_name(source)
    yield from source.skip(ARGS)
    yield from source.space()
    sink.begin(name, call_id)
    yield from copy_arguments(source, sink.arguments)
    sink.end()


def new_id(_name: str, _number: int) -> str:
    """Nine letters and digits: the templates take nothing else."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))


def _id_from(given: str, _name: str, _number: int) -> str:
    return hashlib.sha256(given.encode()).hexdigest()[:9]


LIST = ToolFormat(
    "mistral",
    (OPEN,),
    Shape(
        begin='{"name": "',
        middle='", "arguments": ',
        end="}",
        open=OPEN + "[",
        separator=", ",
        close="]",
        name_in_json=True,
    ),
    OPEN,
    (OPEN,),
    read,
    special=(OPEN, ARGS, ID),
    own_id=_OWN_ID,
    new_id=new_id,
    id_from=_id_from,
)
NAMED = ToolFormat(
    "mistral_args",
    (OPEN, ARGS),
    Shape(begin=OPEN, middle=ARGS, end="", separator=""),
    OPEN,
    (OPEN,),
    read,
    special=(OPEN, ARGS, ID),
    own_id=_OWN_ID,
    new_id=new_id,
    id_from=_id_from,
)
