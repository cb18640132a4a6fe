"""Calls of models whose template knows none: Hermes' form, which we ask for, or a bare object with a known name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from localllm.api import ToolSpec
from localllm.text.tools import hermes
from localllm.text.tools.form import Sink
from localllm.text.tools.readers import read_json_calls
from localllm.text.tools.source import Reading, Source


def read_bare(source: Source, sink: Sink, tools: Sequence[ToolSpec]) -> Reading[None]:
    """An answer that is a call of a known tool, perhaps in a code block."""
    yield from source.space()
    is_fenced = yield from source.skip("```")
    if is_fenced:
        yield from source.skip("json")
    yield from read_json_calls(source, sink, closers=("```",) if is_fenced else (), only={tool.name for tool in tools})


FORMAT = dataclasses.replace(hermes.FORMAT, name="generic", marks=(), read_bare=read_bare)
