"""What an answer's calls are bound to: a request's tools as a grammar over the model's own vocabulary.

An answer that must call may hold calls only. One that may call is free up to the markup that begins a call and bound
from there on: nothing else can follow it. Arguments obey their tool's schema. A schema that cannot be enforced is an
error for a strict tool; for another one its arguments are some JSON object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec

from localllm.api import ChatRequest, Constraint, JsonObject, JsonSchema, Lark, ToolSpec
from localllm.engine.constraint import Grammar
from localllm.engine.grammar.json_schema import normalize
from localllm.engine.vocab import Vocab
from localllm.errors import InvalidRequestError
from localllm.text.tokens import is_guarded
from localllm.text.tools.choice import callable_tools, is_bound
from localllm.text.tools.demand import Demand, grammar_of
from localllm.text.tools.form import ToolFormat

_SOME_OBJECT: dict[str, Any] = {"type": "object"}

Compile = Callable[[Constraint], Grammar]


def binds_calls(request: ChatRequest) -> bool:
    """Whether a request's calls are bound: it asks for that, or its text is bound to JSON, so that calls are too."""
    return is_bound(request) or (isinstance(request.constraint, JsonSchema | JsonObject) and bool(request.tools))


def compile_calls(
    compile: Compile, request: ChatRequest, form: ToolFormat, vocab: Vocab, *, is_open: bool = False
) -> Grammar:
    """The grammar of a request's answer. `is_open`: the prompt ends inside the reasoning.

    Raises InvalidRequestError for what cannot be enforced.
    """
    must = request.tool_choice.mode == "required"
    other = _other(request, must)
    tools = tuple(map(_enforceable, callable_tools(request)))
    demand = Demand(
        form,
        tools,
        special_tokens(vocab),
        vocab.end_tokens,
        must=must,
        several=request.parallel_tool_calls,
        other=other,
        in_reasoning=is_open,
    )
    try:
        return compile(Lark(grammar_of(demand)))
    except InvalidRequestError as error:
        if any(tool.strict for tool in tools) or other is not None:
            raise InvalidRequestError(error.message, hint=error.hint, **{**error.facts, "param": "tools"}) from error
    # Each schema can be enforced; together, or in this family's markup, they cannot.
    relaxed = tuple(msgspec.structs.replace(tool, parameters=_SOME_OBJECT) for tool in tools)
    return compile(Lark(grammar_of(dataclasses.replace(demand, tools=relaxed))))


def special_tokens(vocab: Vocab) -> dict[str, int]:
    """The ids of tokens that no text turns into, by their text."""
    return {
        token.text: token.id
        for token in vocab.special_tokens
        if token.text and (token.kind != "user_defined" or is_guarded(token.text, ""))
    }


def _other(request: ChatRequest, must: bool) -> dict[str, Any] | bool | None:
    """What text beside calls is bound to."""
    match request.constraint:
        case None:
            return None
        case JsonSchema(schema):
            return None if must else schema
        case JsonObject():
            return None if must else _SOME_OBJECT
    hint = "leave tools out, or bind the answer by a JSON Schema"
    raise InvalidRequestError("a grammar beside tools whose calls are bound", hint=hint, param="constraint")


def _enforceable(tool: ToolSpec) -> ToolSpec:
    """A tool with a schema of its arguments that can be enforced. Raises InvalidRequestError."""
    schema: dict[str, Any] = dict(tool.parameters) or {"properties": {}}
    schema.setdefault("type", "object")
    if "properties" in schema and not schema.keys() & {"patternProperties", "anyOf", "oneOf", "allOf", "$ref"}:
        # Names that nobody asked for are mistakes, also where a schema lets them pass.
        schema.setdefault("additionalProperties", False)
    try:
        normalize(schema)
    except InvalidRequestError as error:
        if tool.strict:
            what = f"strict cannot be kept for {tool.name}: {error.message}"
            raise InvalidRequestError(what, hint=error.hint, **{**error.facts, "param": "tools"}) from error
        schema = _SOME_OBJECT
    return msgspec.structs.replace(tool, parameters=schema)
