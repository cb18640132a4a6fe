"""Calls written as Python, `[name(key="value")]` behind a tag: LFM 2, OLMo 3. JSON stands there too.

Python is read by its own parser, as literals only; nothing of it runs.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from localllm.api import ToolSpec
from localllm.text.tools.form import Reader, Shape, Sink, ToolFormat
from localllm.text.tools.json_text import MAX_PYTHON_CHARS, compact
from localllm.text.tools.readers import read_json_calls
from localllm.text.tools.source import MalformedCall, Reading, Source


def _reader(opened: str, closed: str) -> Reader:
    def read(source: Source, sink: Sink, _tools: Sequence[ToolSpec]) -> Reading[None]:
        yield from source.expect(opened)
        yield from source.space()
        if (yield from source.sees("{")) or (yield from source.sees("[{")):
            yield from read_json_calls(source, sink, closers=(closed,))
            return
        text = yield from source.until(closed)
        for name, arguments in python_calls(text):
            sink.begin(name)
            sink.arguments(compact(arguments))
            sink.end()

    return read


def python_calls(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The calls of a Python expression or list of them, one a line or several. Raises MalformedCall."""
    if len(text) > MAX_PYTHON_CHARS:
        raise MalformedCall
    try:
        lines = [line.value for line in ast.parse(text.strip()).body if isinstance(line, ast.Expr)]
        nodes = [node for line in lines for node in (line.elts if isinstance(line, ast.List | ast.Tuple) else [line])]
        calls = [_call(node) for node in nodes]
        [compact(arguments) for _, arguments in calls]
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as exc:
        raise MalformedCall from exc
    if not calls:
        raise MalformedCall
    return calls


def _call(node: ast.expr) -> tuple[str, dict[str, Any]]:
    if not isinstance(node, ast.Call) or node.args or any(word.arg is None for word in node.keywords):
        raise ValueError("no call with named arguments")
    name = ast.unparse(node.func)
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError("a name is wanted")
    return name, {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}


def _format(name: str, marks: tuple[str, ...], opened: str, closed: str) -> ToolFormat:
    shape = Shape(
        begin='{"name": "',
        middle='", "arguments": ',
        end="}",
        open=opened + "[",
        separator=", ",
        close="]" + closed,
        name_in_json=True,
    )
    return ToolFormat(name, marks, shape, opened, (opened,), _reader(opened, closed), special=(opened, closed))


LFM = _format("lfm2", ("<|tool_call_start|>",), "<|tool_call_start|>", "<|tool_call_end|>")
LFM_LISTED = _format("lfm2_list", ("<|tool_list_start|>",), "<|tool_call_start|>", "<|tool_call_end|>")
OLMO = _format("olmo", ("<function_calls>",), "<function_calls>", "</function_calls>")
