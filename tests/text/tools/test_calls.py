"""Every family's calls as text: read at any cut, malformed ones given as text, in linear time."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from localllm.text.parsers import format_named
from localllm.text.parsers.calls import CallArguments, CallBegin, CallEnd
from localllm.text.tools.families import FORMATS, parser_of, tool_format_named, tool_format_of
from localllm.text.tools.form import ToolFormat
from tests.text.tools.answers import ARGUMENTS, CALLS, TOOLS, hear, values, ways_to_cut

each_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)


def some(form: ToolFormat) -> tuple[str, list[tuple[str, Any]]]:
    """What a family writes for our calls, and what that has to be read as."""
    calls = CALLS[:1] if form.one_call else CALLS
    return form.write(calls), [("get_weather", ARGUMENTS), ("now", {})][: len(calls)]


@each_format
@pytest.mark.parametrize("eager", [False, True])
def test_what_a_family_writes_is_read_at_any_cut(form: ToolFormat, eager: bool) -> None:
    written, wanted = some(form)
    whole = hear(form, [written], eager=eager)
    assert values(whole) == wanted
    assert whole.text == ""
    for chunks in ways_to_cut(written):
        assert hear(form, chunks, eager=eager) == whole


@each_format
def test_text_before_a_call_stays_and_the_space_between_goes(form: ToolFormat) -> None:
    if form.is_harmony or not form.anywhere:
        pytest.skip("text has a place of its own in this format")
    written, wanted = some(form)
    for chunks in ways_to_cut("Let me look. <\n\n" + written + "\n"):
        heard = hear(form, chunks)
        assert heard.text == "Let me look. <"
        assert values(heard) == wanted


@each_format
def test_reasoning_comes_before_calls(form: ToolFormat) -> None:
    if form.is_harmony:
        whole = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant" + form.write(CALLS[:1])
        heard = hear(form, [whole])
    else:
        heard = hear(form, ["<think>\nHm.\n</think>\n\n", some(form)[0]], reasoning="think")
    assert heard.reasoning == "Hm."
    assert heard.text == ""
    assert values(heard)[0] == ("get_weather", ARGUMENTS)


@each_format
def test_an_answer_without_calls_is_whole(form: ToolFormat) -> None:
    for text in (
        "Plain.",
        "  def f():\n    <",
        "{}",
        '{"a": 1}',
        "[1, 2]",
        "a [TOOL_ b <| c ```\n",
        '{"name": "Bob"}',
        " \n",
    ):
        for chunks in ([text], list(text)):
            heard = hear(form, chunks)
            assert (heard.text, heard.calls) == (text, ()), form.name


@each_format
def test_nothing_of_the_markup_is_shown_before_it_is_known(form: ToolFormat) -> None:
    """Fed character by character, a whole call never shows any of its text."""
    written, _ = some(form)
    parser = parser_of(format_named("harmony" if form.is_harmony else "none"), False, form, TOOLS)
    for char in written:
        for piece in parser.feed(char):
            assert isinstance(piece, CallBegin | CallArguments | CallEnd), piece


# What models were seen to write, with what it has to be read as.
ANSWERS = [
    ("hermes", '<tool_call>{"arguments": {"a": 1}, "name": "now"}</tool_call>', [("now", {"a": 1})]),
    ("hermes", '<tool_call>[{"name": "now", "arguments": {}}]</tool_call>', [("now", {})]),
    ("hermes", '<tool_call>\n{"name": "now", "arguments": "{\\"a\\": 1}"}\n</tool_call>', [("now", {"a": 1})]),
    ("hermes", '<tool_call>{"name": "now"}</tool_call>', [("now", {})]),
    ("hermes", '<tool_call>{"name": "now", "arguments": null}', [("now", {})]),
    ("hermes", '<tool_call>{"name": "now", "arguments": {"a": "x\ny"}}</tool_call>', [("now", {"a": "x\ny"})]),
    (
        "hermes",
        '<tool_call>{"name": "now", "arguments": {}}\n{"name": "b", "parameters": {}}</tool_call>',
        [("now", {}), ("b", {})],
    ),
    (
        "hermes",
        '<tool_call>{"type": "function", "function": {"name": "now", "arguments": {}}}</tool_call>',
        [("now", {})],
    ),
    ("qwen_coder", "<function=now>\n<parameter=a>\n1\n</parameter>\n</function>", [("now", {"a": 1})]),
    (
        "qwen_coder",
        "<tool_call><function=get_weather><parameter=city>7</parameter><parameter=days>7</parameter>"
        "</function></tool_call>",
        [("get_weather", {"city": "7", "days": 7})],
    ),
    (
        "qwen_coder",
        "<tool_call>\n<function=get_weather>\n<parameter=exact>\nTrue\n</parameter>\n<parameter=tags>\n"
        "['a', 'b']\n</parameter>\n</function>\n</tool_call>",
        [("get_weather", {"exact": True, "tags": ["a", "b"]})],
    ),
    ("glm", "<tool_call>now</tool_call>", [("now", {})]),
    (
        "glm",
        "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Oslo</arg_value></tool_call>",
        [("get_weather", {"city": "Oslo"})],
    ),
    ("llama3", '<|python_tag|>{"name": "x", "parameters": {"a": "b"}}', [("x", {"a": "b"})]),
    ("llama3", '<|python_tag|>brave_search.call(query="a, b", n=2)', [("brave_search", {"query": "a, b", "n": 2})]),
    ("llama3", '{"type": "function", "name": "now", "parameters": {}}', [("now", {})]),
    ("mistral", '[TOOL_CALLS] [{"name": "now", "arguments": {}, "id": "abcdefghi"}]', [("now", {})]),
    ("mistral", '[TOOL_CALLS]now[CALL_ID]abcdefghi[ARGS]{"a": 1}', [("now", {"a": 1})]),
    ("mistral_args", '[TOOL_CALLS]now{"a": 1}', [("now", {"a": 1})]),
    ("mistral_args", '[TOOL_CALLS]now[ARGS]{"a": 1}[TOOL_CALLS]b[ARGS]{}', [("now", {"a": 1}), ("b", {})]),
    (
        "gemma",
        '<|tool_call>call:now{a:<|"|>x, {y}<|"|>,b:[1,{c:true}],d:1.5}<tool_call|>',
        [("now", {"a": "x, {y}", "b": [1, {"c": True}], "d": 1.5})],
    ),
    (
        "harmony",
        '<|start|>assistant to=functions.now<|channel|>commentary json<|message|>{"a": 1}<|call|>',
        [("now", {"a": 1})],
    ),
    ("harmony", '<|channel|>commentary to=functions.now <|constrain|>json<|message|>{"a": 1}', [("now", {"a": 1})]),
    (
        "kimi",
        '<|tool_call_begin|>functions.now:3<|tool_call_argument_begin|>{"a": 1}<|tool_call_end|>',
        [("now", {"a": 1})],
    ),
    ("granite", '<|tool_call|>[{"name": "now", "arguments": {}}]', [("now", {})]),
    (
        "command_r7b",
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "now", "parameters": {}}\n]<|END_ACTION|>',
        [("now", {})],
    ),
    (
        "apriel",
        '<tool_calls>\n<tool_call>now\n```json\n{"a": 1}\n```\n</tool_call>\n</tool_calls>',
        [("now", {"a": 1})],
    ),
    ("lfm2", "<|tool_call_start|>[now(a='x', b=[1, None])]<|tool_call_end|>", [("now", {"a": "x", "b": [1, None]})]),
    ("olmo", "<function_calls>\nnow(a=1)\nx(b='y')\n</function_calls>", [("now", {"a": 1}), ("x", {"b": "y"})]),
    ("generic", '```json\n{"name": "now", "arguments": {"a": 1}}\n```', [("now", {"a": 1})]),
    ("generic", '{"name": "now", "parameters": {}}', [("now", {})]),
]


@pytest.mark.parametrize(("name", "answer", "wanted"), ANSWERS)
def test_what_models_write(name: str, answer: str, wanted: list[tuple[str, Any]]) -> None:
    form = tool_format_named(name)
    for chunks in ways_to_cut(answer):
        heard = hear(form, chunks)
        assert values(heard) == wanted
        assert heard.text == ""


MALFORMED = [
    ("hermes", '<tool_call>{"name": "now", "arguments": {broken}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "now", "arguments": {"a": 1'),
    ("hermes", '<tool_call>{"arguments": {}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "now", "arguments": [1]}</tool_call>'),
    ("hermes", "<tool_call>"),
    ("hermes", '<tool_call>{"name": "now", "arguments": {"a": "\\x"}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "now", "arguments": {"a": 01}}</tool_call>'),
    ("qwen_coder", "<tool_call>\n<function=now>\n<parameter=a>\nnever closed"),
    ("qwen_coder", "<tool_call>\n<function=now>\n<parameter=a>\n1\n</parameter>\n<parameter=a>\n2\n</parameter>"),
    ("glm", "<tool_call>get_weather\n<arg_key>city</arg_key>\nOslo</tool_call>"),
    ("llama3", '{"name": "unknown", "parameters": {}}'),
    ("llama3", '<|python_tag|>print("x")'),
    ("mistral", '[TOOL_CALLS][{"name": "now", "arguments": '),
    ("mistral", "[TOOL_CALLS]now[ARGS]{1}"),
    ("deepseek", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{,}\n```"),
    ("gemma", '<|tool_call>call:now{a:<|"|>x'),
    ("kimi", "<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0 {}"),
    ("granite", "<|tool_call|>[]"),
    ("lfm2", "<|tool_call_start|>[open('x').read()]<|tool_call_end|>"),
    ("generic", '{"name": "Bob", "age": 3}'),
    ("generic", '{"name": "now", "age": 3}'),
]


@pytest.mark.parametrize(("name", "answer"), MALFORMED)
def test_a_malformed_call_is_text_to_the_last_character(name: str, answer: str) -> None:
    form = tool_format_named(name)
    for chunks in ways_to_cut(answer):
        heard = hear(form, ["Well: ", *chunks] if form.read_bare is None else chunks)
        assert heard.calls == ()
        assert heard.text == ("Well: " if form.read_bare is None else "") + answer


def test_a_call_after_a_malformed_one_is_read() -> None:
    form = tool_format_named("hermes")
    good = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    for chunks in ways_to_cut("<tool_call>{bad}</tool_call>" + good):
        heard = hear(form, chunks)
        assert heard.text == "<tool_call>{bad}</tool_call>"
        assert values(heard) == [("now", {})]


def test_harmony_gives_a_message_to_a_tool_that_is_no_json_as_text() -> None:
    form = tool_format_named("harmony")
    header = "<|channel|>commentary to=functions.now <|constrain|>json<|message|>"
    for chunks in ways_to_cut(header + "sorry<|end|><|start|>assistant<|channel|>final<|message|>Yes"):
        heard = hear(form, chunks)
        assert (heard.text, heard.calls) == ("sorryYes", ())


def test_a_bound_call_that_is_cut_off_ends_with_what_it_has() -> None:
    heard = hear(tool_format_named("hermes"), ['<tool_call>\n{"name": "now", "arguments": {"a": "x'], eager=True)
    assert heard.calls == (("now", '{"a": "x'),)
    assert heard.text == ""


def test_bound_calls_go_out_as_they_come() -> None:
    parser = parser_of(format_named("none"), False, tool_format_named("hermes"), TOOLS, True)
    assert parser.feed('<tool_call>\n{"name": "now", ') == []
    begun = parser.feed('"arguments": {"a": ')
    assert isinstance(begun[0], CallBegin)
    assert begun[1:] == [('{"a": ',)]
    assert parser.feed('"long te') == [('"long te',)]


@each_format
def test_ids_are_new_and_of_the_familys_form(form: ToolFormat) -> None:
    ids = {form.id_for("now", 0, None) for _ in range(3)}
    if form.own_id is None:
        assert len(ids) == 3
    else:
        assert all(form.own_id.fullmatch(made) for made in ids)
        assert form.id_of("call_0123456789abcdef", "now", 1) == form.id_of("call_0123456789abcdef", "now", 1)
        assert form.own_id.fullmatch(form.id_of("call_0123456789abcdef", "now", 1))


def test_a_models_own_id_is_kept_where_its_form_is_right() -> None:
    parser = parser_of(format_named("none"), False, tool_format_named("mistral"), TOOLS)
    pieces = parser.feed('[TOOL_CALLS][{"name": "now", "arguments": {}, "id": "abcdefghi"}]')
    assert pieces[0] == CallBegin("now", "abcdefghi")
    parser = parser_of(format_named("none"), False, tool_format_named("command_r7b"), TOOLS)
    (first, *_) = parser.feed('<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "now", "parameters": {}}]')
    assert isinstance(first, CallBegin)
    assert first.id.startswith("call_")


FILLERS = [
    '{"name":"a","arguments":{"a":"',
    '{"name": "now", "arguments": {',
    "<function=a>",
    "[",
    "\n",
    "<",
    "{",
    "```json",
]


def hostile(form: ToolFormat, text: str, size: int) -> None:
    began = time.process_time()
    heard = hear(form, [text[at : at + size] for at in range(0, len(text), size)])
    assert time.process_time() - began < 1.0 + 8.0 * len(text) / 2**20
    assert heard.calls or form.is_harmony or heard.text.strip() == text.strip()


@pytest.mark.parametrize("size", [2**20, 16])
def test_a_megabyte_of_openings_takes_no_time(size: int) -> None:
    hostile(tool_format_named("hermes"), "<tool_call>" * (2**20 // 11), size)


@each_format
def test_time_is_linear_on_hostile_input(form: ToolFormat) -> None:
    """Openings alone, and with what lets a reader go on as far as it can. Quadratic time would be minutes."""
    for opener in form.openers or ("<|channel|>commentary to=functions.x<|message|>",):
        for filler in (opener, *(opener + rest for rest in FILLERS[:2])):
            hostile(form, filler * (2**17 // len(filler)), 2**17)


@pytest.mark.long
@each_format
@pytest.mark.parametrize("size", [2**20, 64, 4])
def test_time_is_linear_whatever_is_repeated(form: ToolFormat, size: int) -> None:
    for opener in form.openers or ("<|channel|>commentary to=functions.x<|message|>",):
        for filler in (opener, *(opener + rest for rest in FILLERS), *FILLERS):
            hostile(form, filler * ((2**20 if size > 64 else 2**18) // len(filler)), size)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("<tool_call>", "hermes"),
        ("<tool_call> <function= <parameter=", "qwen_coder"),
        ("<tool_call> <arg_key>", "glm"),
        ('<|start_header_id|> "parameters": ', "llama3"),
        ("<|start_header_id|>", "generic"),
        ("[TOOL_CALLS]", "mistral"),
        ("[TOOL_CALLS] [ARGS]", "mistral_args"),
        ("<｜tool▁calls▁begin｜> ```json", "deepseek"),
        ("<｜tool▁calls▁begin｜>", "deepseek_v31"),
        ("<|tool_call>", "gemma"),
        ("<|tool_call|>", "granite"),
        ("<|channel|> <|message|> functions", "harmony"),
        ("", "generic"),
    ],
)
def test_the_template_tells_the_format(source: str, name: str) -> None:
    assert tool_format_of(source).name == name


def test_names_are_unique_and_examples_are_json() -> None:
    names = [form.name for form in FORMATS]
    assert len(set(names)) == len(names)
    with pytest.raises(KeyError):
        tool_format_named("nope")
    assert json.loads(CALLS[0].arguments) == ARGUMENTS
