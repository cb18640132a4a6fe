"""Constraints of every kind over a real vocabulary: what they take, what they force, what is refused."""

from __future__ import annotations

import ctypes
import json
import random
import time
from pathlib import Path

import numpy as np
import pytest

from localllm.api import Choice, Constraint, Gbnf, JsonObject, JsonSchema, Lark, Regex
from localllm.binding import C
from localllm.engine.vocab import Vocab
from localllm.errors import InvalidRequestError
from localllm.text.parsers import ReasoningFormat, format_named
from tests.engine.grammars import accepts, constraints_of, load_vocab, matcher_of, walk

pytestmark = pytest.mark.weights

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "occupation": {"enum": ["baker", "barber"]}},
    "required": ["name", "occupation"],
    "additionalProperties": False,
}
ARITHMETIC = r"""
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] ws term)*   # llama.cpp's example
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
"""
JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"""


@pytest.fixture(scope="module")
def vocab(smollm2_path: Path) -> Vocab:
    return load_vocab(smollm2_path)


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        (Regex(r"\d{3}-\d{4}"), ["555-1234"], ["555-123", "5551234", "a555-1234"]),
        (Regex("[a-z]+foo"), ["xfoo", "foofoo"], ["foo", "xfo"]),
        (Regex("a/b\nc"), ["a/b\nc"], ["a/b"]),
        (Regex("^a|b$"), ["a", "b"], ["ab", "c"]),
        (Regex("(?i)yes"), ["yes", "YES"], ["no"]),
        (Choice(("a", "ab", "abc")), ["a", "ab", "abc"], ["", "b", "abcd"]),
        (Choice(('say "hi"', "back\\slash", "new\nline", "\x07bell", "☃")), ['say "hi"', "new\nline", "☃"], ["say"]),
        (Choice(("", "x")), ["", "x"], ["y"]),
        (JsonObject(), ["{}", '{"a": [1, {"b": null}]}', '{\n  "a": 1\n}'], ["[]", '"a"', "{", '{"a":  1}']),
        (Lark('start: greeting " " NAME\ngreeting: "Hi" | "Hello"\nNAME: /[A-Z][a-z]+/'), ["Hi Bob"], ["Hi bob"]),
        (Lark('start: "call(" %json {"type": "integer", "minimum": 3} ")"'), ["call(3)"], ["call(2)", "call()"]),
        (Lark('// a comment (\nstart: a # another (\na: "(" a ")" | "x"'), ["x", "((x))"], ["(x"]),
        (Gbnf('root ::= [a-z]+ "foo"'), ["xfoo", "foofoo"], ["foo"]),
        (Gbnf('root ::= ([a-z] | "foo")+'), ["fox", "foo", "foofo"], ["1"]),
        (Gbnf('root ::= "(" root ")" | [a-z]+ "x"'), ["(ax)", "((bxx))"], ["x", "(a)"]),
        (Gbnf(ARITHMETIC), ["x = 1\n", "(a+b)*2=3\n\n", "a=b\nc=d\n"], ["x = 1", "x 1 = 2\n"]),
        (Gbnf(JSON), ['{"a": [1, 2.5e3, {"b": "x\\n"}]}', "{ }"], ["[1]", '{"a": }']),
        (JsonSchema(PERSON), ['{"name": "A", "occupation": "baker"}'], ['{"name": "A", "occupation": "bar"}']),
    ],
)
def test_what_is_taken_and_what_is_not(vocab: Vocab, constraint: Constraint, good: list[str], bad: list[str]) -> None:
    for text in good:
        assert accepts(vocab, constraint, text), text
    for text in bad:
        assert not accepts(vocab, constraint, text), text


def test_a_name_has_one_spelling(vocab: Vocab) -> None:
    """Two would let an answer give a property twice, the second time with what its schema forbids."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}}
    assert accepts(vocab, JsonSchema(schema), '{"a": 1, "b": "x"}')
    assert not accepts(vocab, JsonSchema(schema), r'{"a": 1, "\u0061": "x"}')


# --- special tokens -----------------------------------------------------------------------------------------------


def test_special_tokens_never_match_text(vocab: Vocab) -> None:
    ends = set(vocab.end_tokens)
    for constraint in (JsonSchema({"type": "string"}), Regex(r"(?s).*"), Choice(("<|im_start|>", "<file_sep>"))):
        matcher = matcher_of(vocab, constraint)
        matcher.advance(int(next(i for i in np.flatnonzero(matcher.allowed()) if i not in ends)))
        allowed = matcher.allowed()
        assert not [token.text for token in vocab.special_tokens if allowed[token.id] and token.id not in ends]


def test_text_that_looks_special_is_spelled_out(vocab: Vocab) -> None:
    matcher = matcher_of(vocab, JsonSchema({"const": "<|im_start|>"}))
    tokens = matcher.forced()
    assert matcher.complete or matcher.allows(vocab.tokenize('"')[0])
    assert b"".join(map(vocab.piece, tokens)).startswith(b'"<|im_start|')
    assert not set(tokens) & {token.id for token in vocab.special_tokens}


def test_the_end_is_allowed_where_the_answer_may_end(vocab: Vocab) -> None:
    matcher = matcher_of(vocab, Regex("ab*"))
    assert not any(matcher.allows(token) for token in vocab.end_tokens)
    for token in vocab.tokenize("abb"):
        matcher.advance(token)
    assert not matcher.complete
    assert all(matcher.allows(token) for token in vocab.end_tokens)


# --- forced tokens and drafts -------------------------------------------------------------------------------------


def test_forced_tokens_are_those_of_the_tokenizer(vocab: Vocab) -> None:
    text = '{"name": "Ann", "occupation": "baker"}'
    expected = vocab.tokenize(text)
    matcher = matcher_of(vocab, JsonSchema(PERSON))
    made: list[int] = []
    num_forced = 0
    while not matcher.complete:
        forced = matcher.forced()
        made += forced
        num_forced += len(forced)
        if not matcher.complete:
            made.append(expected[len(made)])
            matcher.advance(made[-1])
    assert made == expected
    assert num_forced >= 6


def test_a_long_forced_text_does_not_reach_the_native_tokenizer_whole(vocab: Vocab) -> None:
    """llama.cpp's word patterns recurse once a character: 50,000 letters in one go overflow a stack."""
    matcher = matcher_of(vocab, Regex("(a{10000}){5}"))
    forced = matcher.forced()
    assert len(b"".join(map(vocab.piece, forced))) > 49_000


def test_masks_follow_drafts_and_stop_at_the_first_that_is_refused(vocab: Vocab) -> None:
    text = vocab.tokenize('{"name": "Ann')
    wrong = vocab.tokenize("baker")[0]
    matcher = matcher_of(vocab, JsonSchema(PERSON))
    plain = matcher_of(vocab, JsonSchema(PERSON))
    matcher.prepare([*text[:3], wrong, *text[3:]])
    for token in text:
        assert matcher.allows(token)
        assert (matcher.allowed() == plain.allowed()).all()
        matcher.advance(token)
        plain.advance(token)
    assert matcher.failure is None


def test_a_draft_that_was_not_chosen_changes_nothing(vocab: Vocab) -> None:
    matcher = matcher_of(vocab, Choice(("left side", "right side")))
    left, right = vocab.tokenize("left side"), vocab.tokenize("right side")
    matcher.prepare(left)
    matcher.advance(right[0])
    assert matcher.allows(right[1])
    for token in right[1:]:
        matcher.advance(token)
    assert matcher.complete


def test_answers_of_one_grammar_do_not_know_of_each_other(vocab: Vocab) -> None:
    grammar = constraints_of(vocab).compile(Choice(("left side", "right side")))
    one, two = grammar.begin(), grammar.begin()
    one.advance(vocab.tokenize("left")[0])
    assert two.allows(vocab.tokenize("right")[0])
    assert not one.allows(vocab.tokenize("right")[0])


# --- GBNF as llama.cpp reads it -----------------------------------------------------------------------------------


def llama_accepts(vocab: Vocab, grammar: str, text: str) -> bool:
    """What llama.cpp's own grammar sampler says of a text."""
    sampler = C.llama_sampler_init_grammar(vocab.handle, grammar.encode(), b"root")
    assert sampler
    try:
        for token in vocab.tokenize(text):
            if not llama_allows(sampler, token):
                return False
            C.llama_sampler_accept(sampler, token)
        return llama_allows(sampler, vocab.end_tokens[0])
    finally:
        C.llama_sampler_free(sampler)


def llama_allows(sampler: object, token: int) -> bool:
    data = (C.llama_token_data * 1)(C.llama_token_data(token, 0.0, 0.0))
    array = C.llama_token_data_array(data, 1, -1, False)
    C.llama_sampler_apply(sampler, ctypes.byref(array))
    return bool(data[0].logit > -1e30)


@pytest.mark.parametrize(
    ("grammar", "texts"),
    [
        (ARITHMETIC, ["x = 1\n", "(a + b) * 2=3\n\n", "a=b\nc=d\n", "a = b \n c=d\n", "x=1 \n"]),
        (JSON, ['{"a": [1, 2.5e3, {"b": "x\\n"}]}', "{\n}", '{"a" :1}', '{"a":1 , "b":2}']),
        ('root ::= [a-z]+ "foo" | root2\nroot2 ::= "(" root ")"', ["xfoo", "(foofoo)", "foo", "((afoo))"]),
        ('root ::= ("a" | "b" root "c") [ \\t]* " "', ["a ", "ba  c ", "ba c", "a"]),
        (
            'root ::= item+\nitem ::= "- " [^\\r\\n\\x0b\\x0c\\x85\\u2028\\u2029]+ "\\n"',
            ["- a\n- b\n", "- \n", "- é\n"],
        ),
        ('root ::= ([a-c] | "abc" | "(" root ")")*', ["abca(b)", "()", "abcabc", "abd"]),
        ('root ::= "x"{2,3} ("y" | root){0,2}', ["xx", "xxxx", "xxyy", "xxxxxy", "x"]),
        ('root ::= [^a-z]{1,4} | "[" root? "]"', ["[]", "[[É]]", "[[[", "a"]),
        ('root ::= (("a"*)*)* "b" | "c" root', ["b", "caab", "cc", "ab"]),
    ],
)
def test_gbnf_means_what_it_means_to_llama_cpp(vocab: Vocab, grammar: str, texts: list[str]) -> None:
    rng = random.Random(grammar)
    walked = [walk(vocab, matcher_of(vocab, Gbnf(grammar)), rng, 40) for _ in range(8)]
    answers = [text for text in [*texts, *walked] if text and len(text) < 200]
    changed = [answer[:at] + rng.choice(answer + "ax( ") + answer[at + 1 :] for answer in answers for at in (0, 1, -2)]
    judged = [(text, llama_accepts(vocab, grammar, text)) for text in [*answers, *changed]]
    assert {verdict for _, verdict in judged} == {True, False}
    for text, verdict in judged:
        assert accepts(vocab, Gbnf(grammar), text) == verdict, text


# --- what is refused ----------------------------------------------------------------------------------------------


def nested_schema(depth: int) -> dict[str, object]:
    schema: dict[str, object] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def chain(count: int) -> str:
    return "\n".join(f"r{i} ::= r{i + 1}" for i in range(count)) + f'\nr{count} ::= "a"\nroot ::= r0'


HOSTILE: dict[str, Constraint] = {
    "60,000 groups": Gbnf("root ::= " + "(" * 60_000 + '"a"' + ")" * 60_000),
    "5,000 rules": Gbnf(chain(5000)),
    "left recursion": Gbnf('root ::= root "a" | "b"'),
    "hidden left recursion": Gbnf('root ::= a "b" | "c"\na ::= "x"? root'),
    "a bound of 99,999": Gbnf('root ::= "a"{0,99999}'),
    "bounds that multiply": Gbnf('root ::= (("a"{1000}){1000}){1000}'),
    "rules that double": Gbnf(
        "\n".join(f"r{i} ::= r{i + 1} r{i + 1}" for i in range(40)) + '\nr40 ::= "a"\nroot ::= r0'
    ),
    "no end": Gbnf('root ::= "a" root'),
    "no root": Gbnf('a ::= "b"'),
    "an unknown rule": Gbnf("root ::= b"),
    "a token": Gbnf("root ::= <|im_end|>"),
    "no grammar": Gbnf(""),
    "Lark in 60,000 groups": Lark("start: " + "(" * 60_000 + '"a"' + ")" * 60_000),
    "Lark of 5,000 rules": Lark("start: r0\n" + "\n".join(f"r{i}: r{i + 1}" for i in range(5000)) + '\nr5000: "a"'),
    "a Lark bound": Lark('start: "a"{0,99999}'),
    "Lark with tilde bounds": Lark('start: (("a" ~ 1000) ~ 1000) ~ 1000'),
    "a regex in Lark": Lark(f"start: /{'(' * 10_000}a{')' * 10_000}/"),
    "a schema in Lark": Lark('start: %json {"type": "string", "uniqueItems": true}'),
    "Lark with max_tokens": Lark("start: a\na[max_tokens=3]: /.*/"),
    "Lark that is JSON": Lark('{"grammars": []}'),
    "Lark with %regex": Lark('start: A\nA: %regex {"substring_words": "a b"}'),
    "Lark without start": Lark('a: "b"'),
    "10,000 parentheses": Regex("(" * 10_000 + "a" + ")" * 10_000),
    "comments that close": Regex("(?x)" + "( # )\n" * 200 + "a"),
    "a large regex bound": Regex("a{100000}"),
    "regex bounds that multiply": Regex("((a{1000}){1000}){1000}"),
    "look-behind": Regex("(?<=a)b"),
    "a broken regex": Regex("a(b"),
    "nothing matches": Regex(r"[^\s\S]"),
    "no choice": Choice(()),
    "100,000 choices": Choice(tuple(f"choice {i}" for i in range(100_000))),
    "depth 1,000": JsonSchema(nested_schema(1000)),
    "depth 120": JsonSchema(nested_schema(120)),
    "a chain of references": JsonSchema(
        {
            "$defs": {f"d{i}": {"items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(300)} | {"d300": {}},
            "$ref": "#/$defs/d0",
        }
    ),
    "a loop of references": JsonSchema({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
    "a remote reference": JsonSchema({"$ref": "http://127.0.0.1:1/schema.json"}),
    "oneOf of oneOf": JsonSchema({"oneOf": [{"oneOf": [{"type": "string"}] * 12}] * 12}),
    "choices that multiply": JsonSchema(
        {"allOf": [{"anyOf": [{"required": [f"a{i}{j}"]} for j in range(4)]} for i in range(8)]}
    ),
    "a pattern with look-behind": JsonSchema({"type": "string", "pattern": "(?<=a)b"}),
    "a pattern of 10,000 parentheses": JsonSchema({"type": "string", "pattern": "(" * 10_000 + ")" * 10_000}),
    "minLength 1e9": JsonSchema({"type": "string", "minLength": 10**9}),
    "maxItems 1e9": JsonSchema({"type": "array", "maxItems": 10**9}),
    "1,000,000 values": JsonSchema({"enum": list(range(1_000_000))}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_is_refused_at_once(vocab: Vocab, name: str) -> None:
    constraints_of(vocab).compile(JsonObject())
    began = time.perf_counter()
    with pytest.raises(InvalidRequestError) as caught:
        matcher_of(vocab, HOSTILE[name])
    assert time.perf_counter() - began < 1.0
    assert caught.value.message


@pytest.mark.parametrize(
    "constraint",
    [
        Gbnf('root ::= (("a"*)*)* "."'),
        JsonSchema({"type": "string", "pattern": "^(a+)+$"}),
        JsonSchema({"type": "string", "pattern": ".*a.{200}"}),
        JsonSchema({"type": "string", "minLength": 100_000}),
        JsonSchema({"type": "array", "items": {"type": "integer"}, "maxItems": 10_000}),
        JsonSchema({"enum": [f"value {i}" for i in range(5000)]}),
        JsonSchema(nested_schema(45)),
        Choice(tuple(f"choice {i}" for i in range(5000))),
        Gbnf(chain(900)),
    ],
    ids=lambda constraint: str(constraint)[:40],
)
def test_what_is_large_but_harmless_is_taken_at_once(vocab: Vocab, constraint: Constraint) -> None:
    constraints_of(vocab).compile(JsonObject())
    began = time.perf_counter()
    matcher = matcher_of(vocab, constraint)
    assert matcher.allowed().any()
    assert time.perf_counter() - began < 1.0


# --- reasoning before the answer ----------------------------------------------------------------------------------

# Control tokens of this vocabulary in the place of a reasoning model's tags.
THINKING = ReasoningFormat("test", (), "<jupyter_start>", "<jupyter_code>", format_named("think").parser)


def ids(vocab: Vocab, text: str) -> list[int]:
    return vocab.tokenize(text, parse_special=True)


@pytest.mark.parametrize("is_open", [False, True])
def test_the_grammar_begins_behind_the_reasoning(vocab: Vocab, is_open: bool) -> None:
    matcher = constraints_of(vocab).compile(Choice(("yes", "no")), THINKING, is_open=is_open).begin()
    thoughts = "Anything { goes <|im_start|> here\n<jupyter_code>\n\n"
    for token in ids(vocab, thoughts if is_open else "<jupyter_start>" + thoughts):
        assert matcher.forced() == []
        assert matcher.allows(token), vocab.piece(token, special=True)
        matcher.advance(token)
    assert matcher.allows(ids(vocab, "yes")[0])
    assert not matcher.allows(ids(vocab, "maybe")[0])
    matcher.advance(ids(vocab, "yes")[0])
    assert matcher.complete


def test_a_model_may_answer_without_reasoning(vocab: Vocab) -> None:
    matcher = constraints_of(vocab).compile(Choice(("yes", "no")), THINKING).begin()
    assert matcher.allows(ids(vocab, "<jupyter_start>")[0])
    matcher.advance(ids(vocab, "yes")[0])
    assert matcher.complete


def test_thinking_does_not_end_the_answer(vocab: Vocab) -> None:
    matcher = constraints_of(vocab).compile(Choice(("yes", "no")), THINKING, is_open=True).begin()
    assert not any(matcher.allows(token) for token in vocab.end_tokens)


def test_reasoning_that_somebody_else_ends(vocab: Vocab) -> None:
    matcher = constraints_of(vocab).compile(Choice(("yes", "no")), THINKING, is_open=True).begin()
    matcher.advance(ids(vocab, "Hmm")[0])
    matcher.accept(ids(vocab, "\n<jupyter_code>\n\n"))
    assert matcher.forced() == []
    assert not matcher.allows(ids(vocab, "Hmm")[0])
    assert matcher.allows(ids(vocab, "no")[0])


def test_the_closing_tag_may_come_in_pieces(vocab: Vocab) -> None:
    form = ReasoningFormat("test", (), "<jupyter_start>", "[end of thought]", format_named("think").parser)
    matcher = constraints_of(vocab).compile(Choice(("yes", "no")), form, is_open=True).begin()
    for token in vocab.tokenize("so [end of thought]"):
        matcher.advance(token)
    assert not matcher.allows(ids(vocab, "Hmm")[0])
    assert matcher.allows(ids(vocab, "no")[0])


def test_json_of_a_schema_is_on_one_line_and_free_json_as_the_model_likes(vocab: Vocab) -> None:
    pretty = json.dumps({"name": "A", "occupation": "baker"}, indent=2)
    assert accepts(vocab, JsonObject(), pretty)
    assert not accepts(vocab, JsonSchema(PERSON), pretty)
