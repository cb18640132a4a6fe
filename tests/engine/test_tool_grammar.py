"""Grammars for calls over a real vocabulary: whatever they allow is read as calls that obey their schemas."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from localllm.api import ChatRequest, Lark, Message, ToolCall, ToolChoice, ToolSpec
from localllm.engine.grammar.limits import refuse
from localllm.engine.tool_grammar import compile_calls
from localllm.engine.vocab import Vocab
from localllm.errors import InvalidRequestError
from localllm.text.parsers import format_named
from localllm.text.parsers.calls import CallArguments, CallBegin
from localllm.text.tools.demand import Demand, grammar_of
from localllm.text.tools.families import FORMATS, parser_of, tool_format_named
from localllm.text.tools.form import ToolFormat
from tests.engine.grammars import accepts, constraints_of, load_vocab, walk

pytestmark = pytest.mark.weights

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"enum": ["c", "f"]},
        "days": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "deep": {
            "type": "object",
            "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
EMPTY: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
TOOLS = (ToolSpec("get_weather", "", WEATHER), ToolSpec("now", "", EMPTY))
SCHEMAS = {tool.name: tool.parameters for tool in TOOLS}

each_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)


@pytest.fixture(scope="module")
def vocab(smollm2_path: Path) -> Vocab:
    return load_vocab(smollm2_path)


def demand(form: ToolFormat, vocab: Vocab, **changes: Any) -> Demand:
    fields: dict[str, Any] = {"must": True, "several": True, **changes}
    return Demand(form, TOOLS, {}, vocab.end_tokens, **fields)


def read(form: ToolFormat, text: str) -> tuple[str, list[tuple[str, str]]]:
    parser = parser_of(format_named("harmony" if form.is_harmony else "none"), False, form, TOOLS, True)
    said, calls = "", []
    for piece in [*parser.feed(text), *parser.flush()]:
        if isinstance(piece, CallBegin):
            calls.append((piece.name, ""))
        elif isinstance(piece, CallArguments):
            calls[-1] = (calls[-1][0], calls[-1][1] + piece.text)
        elif len(piece) == 2 and piece[0] == "text":
            said += piece[1]
    return said, calls


@each_format
@pytest.mark.parametrize("must", [True, False])
def test_whatever_is_allowed_is_read_as_calls_that_obey(form: ToolFormat, vocab: Vocab, must: bool) -> None:
    compiled = constraints_of(vocab).compile(Lark(grammar_of(demand(form, vocab, must=must))))
    rng = random.Random(form.name)
    num_ended = 0
    for _ in range(5):
        text = walk(vocab, compiled.begin(), rng, 160)
        if text is None:
            continue
        num_ended += 1
        said, calls = read(form, text)
        assert not must or (calls and not said.strip()), text
        for name, arguments in calls:
            jsonschema.Draft202012Validator(SCHEMAS[name]).validate(json.loads(arguments))
    assert num_ended or must or form.is_harmony


@each_format
def test_a_free_answer_is_bound_from_the_markup_on(form: ToolFormat, vocab: Vocab) -> None:
    grammar = Lark(grammar_of(demand(form, vocab, must=False)))
    lead = "" if form.is_harmony or not form.anywhere else "Let me look. "
    for call in (ToolCall("", "now", "{}"), ToolCall("", "get_weather", '{"city": "a", "unit": "c", "days": 3}')):
        written = form.write([call])
        assert accepts(vocab, grammar, lead + (written.removesuffix("<|call|>") if form.is_harmony else written))
    plain = "<|channel|>final<|message|>Just words." if form.is_harmony else "Just words, {no} call."
    assert accepts(vocab, grammar, plain)
    assert not accepts(vocab, grammar, lead + form.shape.open + form.shape.begin + "absent")


@each_format
def test_one_call_at_most_is_one(form: ToolFormat, vocab: Vocab) -> None:
    one = [ToolCall("", "now", "{}")]
    grammar = Lark(grammar_of(demand(form, vocab, several=False)))
    ending = "<|call|>" if form.is_harmony else ""
    assert accepts(vocab, grammar, form.write(one).removesuffix(ending) if ending else form.write(one))
    if not form.one_call:
        assert not accepts(vocab, grammar, form.write(one * 2))
        assert accepts(vocab, Lark(grammar_of(demand(form, vocab))), form.write(one * 2))


def request(*tools: ToolSpec, mode: Any = "required", **fields: Any) -> ChatRequest:
    return ChatRequest("m", (Message("user", "Hi"),), tools=tools, tool_choice=ToolChoice(mode), **fields)


def test_special_tokens_are_used_where_the_vocabulary_has_them(vocab: Vocab) -> None:
    form = tool_format_named("hermes")
    token = next(special for special in vocab.special_tokens if special.text == "<file_sep>")
    grammar = grammar_of(Demand(form, TOOLS, {"<tool_call>": token.id}, vocab.end_tokens, must=False, several=True))
    matcher = constraints_of(vocab).compile(Lark(grammar)).begin()
    for word in vocab.tokenize("Let me look. "):
        matcher.advance(word)
    assert matcher.allows(token.id)
    matcher.advance(token.id)
    assert vocab.detokenize(matcher.forced()).startswith('\n{"name": "')


def test_a_schema_that_cannot_be_enforced_is_refused_for_strict_tools_only(vocab: Vocab) -> None:
    odd = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}
    compile = constraints_of(vocab).compile
    form = tool_format_named("hermes")
    with pytest.raises(InvalidRequestError, match="strict cannot be kept for odd") as error:
        compile_calls(compile, request(ToolSpec("odd", "", odd, strict=True)), form, vocab)
    assert error.value.facts["param"] == "tools"
    assert compile_calls(compile, request(ToolSpec("odd", "", odd)), form, vocab).begin()


def test_what_markup_cannot_enforce_is_refused_for_strict_tools_only(vocab: Vocab) -> None:
    short = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}}
    compile = constraints_of(vocab).compile
    for name in ("qwen_coder", "glm", "minimax", "gemma"):
        form = tool_format_named(name)
        with pytest.raises(InvalidRequestError, match="maxLength"):
            compile_calls(compile, request(ToolSpec("t", "", short, strict=True)), form, vocab)
        assert compile_calls(compile, request(ToolSpec("t", "", short)), form, vocab).begin()


def test_arguments_that_nobody_named_do_not_come(vocab: Vocab) -> None:
    lax = ToolSpec("t", "", {"properties": {"a": {"type": "integer"}}})
    compiled = compile_calls(
        constraints_of(vocab).compile, request(lax, ToolSpec("none")), tool_format_named("hermes"), vocab
    )
    rng = random.Random(0)
    for _ in range(8):
        text = walk(vocab, compiled.begin(), rng, 160)
        for _name, arguments in read(tool_format_named("hermes"), text or "")[1]:
            assert set(json.loads(arguments)) <= {"a"} if text else True


def test_errors_of_the_compiler_name_the_tools(vocab: Vocab) -> None:
    def compile(_constraint: object) -> Any:
        refuse("too much of it")

    with pytest.raises(InvalidRequestError) as error:
        compile_calls(compile, request(ToolSpec("t", "", EMPTY, strict=True)), tool_format_named("hermes"), vocab)
    assert error.value.facts["param"] == "tools"
