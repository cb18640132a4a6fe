"""Rendering and fitting a request: what templates are given, what they may lack, and what a context allows."""

from __future__ import annotations

import datetime
import json

import pytest

from localllm.api import Message, Notice, ToolCall, ToolSpec
from localllm.errors import ContextLengthError, InvalidRequestError, TemplateError
from localllm.text.segments import Segment
from localllm.text.template import ChatTemplate, Prepared, prepare, render_chat
from tests.text.conftest import Loaded
from tests.text.conversations import BENIGN, TOOLS, assistant, request, system, user
from tests.text.families import CHATML, DEEPSEEK, GEMMA, LLAMA3, MISTRAL
from tests.text.vocabs import LlamaVocab


def text_of(segments: list[Segment]) -> str:
    return "".join(segment.text for segment in segments)


def rendered(source: str, *messages: Message, **args: object) -> str:
    return text_of(render_chat(ChatTemplate(source), messages or [user("hi")], TOOLS, args=args))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% if true %}\n  a\n  {% endif %}\nb\n", "  a\nb"),  # trim_blocks, lstrip_blocks, the last newline dropped
        ("{{ {'a': '<é>'} | tojson }}", '{"a": "<é>"}'),
        ("{{ {'b': 1, 'a': 'é'} | tojson(ensure_ascii=true, sort_keys=true) }}", '{"a": "\\u00e9", "b": 1}'),
        ("{{ {'a': [1]} | tojson(indent=2) }}", '{\n  "a": [\n    1\n  ]\n}'),
        ("{{ {'a': 1} | tojson(separators=(',', ':')) }}", '{"a":1}'),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "02"),
        ("{% generation %}a{% endgeneration %}b", "ab"),
        ("{{ documents is none }}{{ tools is sequence }}{{ add_generation_prompt }}", "TrueTrueTrue"),
        ("{{ none }}{{ missing }}{{ 1.5 }}{{ [1, 'a'] }}", "None1.5[1, 'a']"),
        ("{{ messages[0].role == 'user' and messages[0]['role'] is string }}", "True"),
        ("{{ tools[0].function.name }}{{ tools[0].type }}", "getfunction"),
        ("{% set x = [] %}{% set _ = x.append(1) %}{{ x }}{{ x.pop(0) }}", "[1]1"),
        ("{{ 'a\nb\n' | indent(2) }}|{{ 'a\n\nb' | indent(2, true, true) }}", "a\n  b\n|  a\n  \n  b"),
        ('{{ "don\'t stop" | title }}', "Don't Stop"),
        ("{{ [3, 1, 2] | sort | join(',') }}{{ {'b': 1, 'a': 2} | dictsort }}", "1,2,3[('a', 2), ('b', 1)]"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{{ {'a': 1} | items | list }}", "a1[('a', 1)]"),
        ("{{ '%s and %05.1f and %%' % ('a', 2) }}{{ '%(x)s' % {'x': 1} }}", "a and 002.0 and %1"),
        ("{{ '{0} {1!r} {x[a]} {{}}'.format('a', 'b', x={'a': 3}) }}", "a 'b' 3 {}"),
        ("{{ 'a-b'.partition('-') | list }}{{ 'abc'[-2:] }}{{ 'abc'[0] }}", "['a', '-', 'b']bca"),
        ("{{ messages | map(attribute='role') | join }}", "user"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
    ],
)
def test_templates_mean_what_they_mean_elsewhere(source: str, expected: str) -> None:
    assert rendered(source) == expected


def test_the_date_is_today() -> None:
    assert rendered("{{ strftime_now('%Y') }}") == str(datetime.datetime.now().year)


def test_tool_calls_serve_templates_of_either_taste() -> None:
    arguments = '{"b": 1,  "a": "é"}'
    message = assistant("", tool_calls=(ToolCall(id="i1", name="f", arguments=arguments),))
    source = "{%- set a = messages[0].tool_calls[0].function.arguments -%}"
    for expression, expected in [
        ("{{ a | tojson }}", '{"b": 1, "a": "é"}'),
        ("{{ a }}", arguments),
        ("{{ '<' + a + '>' }}", f"<{arguments}>"),
        ("{{ '<' ~ a ~ '>' }}", f"<{arguments}>"),
        ("{% for k, v in a.items() %}{{ k }}={{ v }};{% endfor %}", "b=1;a=é;"),
        ("{{ a is mapping }}{{ a.b }}", "True1"),
    ]:
        template = ChatTemplate(source + expression)
        segments = render_chat(template, [message], add_generation_prompt=False)
        assert text_of(segments) == expected
        assert not any(segment.trusted for segment in segments if arguments in segment.text)


def test_arguments_that_are_no_object_stay_text() -> None:
    message = assistant("", tool_calls=(ToolCall(id="i1", name="f", arguments="[oops"),))
    source = "{{ messages[0].tool_calls[0].function.arguments }}"
    assert text_of(render_chat(ChatTemplate(source), [message], add_generation_prompt=False)) == "[oops"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_comes_under_the_name_the_template_asks_for(name: str) -> None:
    source = "{% for m in messages %}{{ m." + name + " or '-' }}{{ m.content }}{% endfor %}"
    segments = render_chat(ChatTemplate(source), [assistant("b", reasoning="a"), user("c")])
    assert text_of(segments) == "ab-c"


def test_a_template_with_places_for_parts_gets_parts() -> None:
    source = "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}"
    assert rendered(source, user("a"), assistant("b"), user("c")) == "<user>a<assistant>b<user>c"


def test_a_system_message_without_a_place_goes_before_the_users(gemma: Loaded) -> None:
    _, vocab = gemma
    prepared = prepare(GEMMA.compile(), vocab, request(system("S"), user("a"), assistant("b"), user("c")), 512)
    assert "user\nS\n\na<end_of_turn>" in vocab.detokenize(prepared.tokens)
    assert [notice.kind for notice in prepared.notices] == ["template"]
    assert prepared.notices[0].facts == {"system": "merged"}


def test_a_system_message_that_a_template_drops_is_not_lost() -> None:
    source = "{% for m in messages if m.role != 'system' %}[{{ m.content }}]{% endfor %}"
    assert rendered(source, system("S"), user("a")) == "[S\n\na]"
    assert rendered(source, user("a"), assistant("b"), system("S"), user("c")) == "[a][b][S\n\nc]"
    assert rendered(source, user("a"), system("S")) == "[a][S]"


def test_a_refusal_says_what_the_template_said() -> None:
    source = "{% if messages[0].role != 'user' %}{{ raise_exception('start with a user') }}{% endif %}"
    source += "{{ messages[0].content }}"
    with pytest.raises(TemplateError, match="start with a user") as caught:
        rendered(source, assistant("a"), user("b"))
    assert caught.value.facts["cause"] == "refused"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("a\n{{ oops", "line 2"),
        ("{% if %}", "does not compile"),
        ("{{ 1 | nofilter }}", "nofilter"),
        ("{{ a.b.c }}", "failed at line 1: UndefinedError"),
        ("ok\n\n{{ 'a' + 1 }}", "failed at line 3: TypeError"),
        ("{{ 'a'.no() }}", "failed at line 1"),
        ("{% import 'x' as x %}", "failed"),
    ],
)
def test_a_broken_template_names_the_line(source: str, said: str) -> None:
    with pytest.raises(TemplateError) as caught:
        rendered(source)
    assert said in caught.value.message
    assert caught.value.hint


def test_without_a_template_it_is_chatml_and_said(chatml: LlamaVocab) -> None:
    prepared = prepare(ChatTemplate(None), chatml, request(system("S"), user("a")), 512)
    expected = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert prepared.tokens == chatml.reference(expected)
    assert [(n.kind, n.facts) for n in prepared.notices] == [("template", {"template": "chatml"})]


def test_named_templates() -> None:
    named = {"tool_use": "T{{ tools | length }}", "rerank": "R{{ messages[0].content }}"}
    template = ChatTemplate("D{{ messages[0].content }}", named=named)
    assert template.names == {"tool_use", "rerank"}
    assert text_of(render_chat(template, [user("a")])) == "Da"
    assert text_of(render_chat(template, [user("a")], TOOLS)) == "T1"
    assert text_of(render_chat(template, [user("a")], name="rerank")) == "Ra"
    with pytest.raises(InvalidRequestError, match="nope"):
        render_chat(template, [user("a")], name="nope")


def test_a_last_answer_is_continued(chatml: LlamaVocab) -> None:
    template = CHATML.compile()
    prepared = prepare(template, chatml, request(user("a"), assistant("The sky")), 512)
    assert chatml.detokenize(prepared.tokens).endswith("<|im_start|>assistant\nThe sky")
    closed = text_of(render_chat(template, [user("a"), assistant("b")], add_generation_prompt=False))
    assert closed.endswith("assistant\nb<|im_end|>\n")


def test_an_answer_is_continued_behind_its_reasoning(deepseek: Loaded, chatml: LlamaVocab) -> None:
    _, vocab = deepseek
    template = DEEPSEEK.compile()
    opened = prepare(template, vocab, request(user("a")), 512)
    assert (opened.reasoning_format, opened.starts_in_reasoning) == ("think", True)
    answer = prepare(template, vocab, request(user("a"), assistant("So")), 512)
    assert vocab.detokenize(answer.tokens).endswith("<think>\n\n</think>\n\nSo")
    assert not answer.starts_in_reasoning
    thought = prepare(template, vocab, request(user("a"), assistant("", reasoning="Let me")), 512)
    assert vocab.detokenize(thought.tokens).endswith("<think>\nLet me")
    assert thought.starts_in_reasoning
    both = prepare(CHATML.compile(), chatml, request(user("a"), assistant("So", reasoning="Hm")), 512)
    assert chatml.detokenize(both.tokens).endswith("assistant\n<think>\nHm\n</think>\n\nSo")
    assert both.tokens.count(chatml.id("</think>")) == 1


def test_a_user_does_not_open_the_reasoning(chatml: LlamaVocab) -> None:
    template = ChatTemplate("<think></think>{{ messages[0].content }}")
    assert not prepare(template, chatml, request(user("<think>")), 512).starts_in_reasoning
    assert prepare(
        ChatTemplate("{{ messages[0].content }}<think>\n"), chatml, request(user("a")), 512
    ).starts_in_reasoning


def test_think_reaches_the_template(chatml: LlamaVocab) -> None:
    template = CHATML.compile()

    def tail(**changes: object) -> str:
        return chatml.detokenize(prepare(template, chatml, request(user("a"), **changes), 512).tokens)[-30:]

    assert tail(think=False).endswith("<think>\n\n</think>\n\n")
    assert tail(think=None) == tail(think=True)
    assert tail(think=None).endswith("assistant\n")
    assert tail(template_args={"enable_thinking": False}) == tail(think=False)


def test_the_vocabulary_tells_the_reasoning_format_where_the_template_does_not(chatml: LlamaVocab) -> None:
    plain = ChatTemplate("{{ messages[0].content }}")
    assert prepare(plain, chatml, request(user("a")), 512).reasoning_format == "think"


def test_a_chat_needs_a_message(chatml: LlamaVocab) -> None:
    with pytest.raises(InvalidRequestError, match="without messages"):
        prepare(CHATML.compile(), chatml, request(), 512)


def test_the_prompt_and_one_token_more_must_fit(chatml: LlamaVocab) -> None:
    num_tokens = len(prepare(CHATML.compile(), chatml, request(*BENIGN), 4096).tokens)
    assert prepare(CHATML.compile(), chatml, request(*BENIGN), num_tokens + 1).notices == []
    with pytest.raises(ContextLengthError) as caught:
        prepare(CHATML.compile(), chatml, request(*BENIGN), num_tokens)
    assert caught.value.facts == {"num_prompt_tokens": num_tokens, "num_ctx": num_tokens}


def conversation(num_turns: int) -> list[Message]:
    turns = [(user(f"question {i} " + "x" * 20), assistant(f"answer {i}")) for i in range(num_turns)]
    return [system("Stay."), *(message for turn in turns for message in turn), user("last")]


def test_oldest_turns_go_first_and_as_few_as_possible(chatml: LlamaVocab) -> None:
    template = CHATML.compile()
    messages = conversation(12)

    def attempt(num_ctx: int) -> Prepared:
        return prepare(template, chatml, request(*messages, truncate="oldest"), num_ctx)

    whole = attempt(100_000)
    assert whole.notices == []
    for num_ctx in range(80, len(whole.tokens) + 1, 37):
        prepared = attempt(num_ctx)
        text = chatml.detokenize(prepared.tokens)
        assert len(prepared.tokens) + 1 <= num_ctx
        assert "Stay." in text
        assert text.endswith("user\nlast<|im_end|>\n<|im_start|>assistant\n")
        (notice,) = prepared.notices
        assert isinstance(notice, Notice)
        num_dropped = notice.facts["num_dropped_messages"]
        assert num_dropped % 2 == 0
        assert f"question {num_dropped // 2 - 1} " not in text
        assert num_dropped == 24 or f"question {num_dropped // 2} " in text
        assert notice.facts["num_prompt_tokens"] == len(prepared.tokens)
        assert notice.facts["num_prompt_tokens_before"] == len(whole.tokens)
        one_turn_more = [messages[0], *messages[1 + num_dropped - 2 :]]
        assert len(prepare(template, chatml, request(*one_turn_more), 100_000).tokens) + 1 > num_ctx


def test_what_cannot_be_dropped_is_an_error(chatml: LlamaVocab) -> None:
    with pytest.raises(ContextLengthError):
        prepare(CHATML.compile(), chatml, request(*conversation(3), truncate="oldest"), 20)
    with pytest.raises(ContextLengthError):
        prepare(CHATML.compile(), chatml, request(user("x" * 500), truncate="oldest"), 100)


def test_a_prompt_far_too_long_is_refused_before_it_is_all_counted(chatml: LlamaVocab) -> None:
    with pytest.raises(ContextLengthError, match="more than") as caught:
        prepare(CHATML.compile(), chatml, request(user("ab " * 400_000)), 512)
    assert caught.value.facts["num_prompt_tokens"] > 65536


def test_a_template_is_compiled_once_and_serves_any_number_of_requests() -> None:
    template = LLAMA3.compile()
    first = template.render(BENIGN)
    template.render([user("other")], TOOLS, args={"x": 1})
    assert template.render(BENIGN) == first


def test_rendering_leaves_the_request_as_it_was() -> None:
    source = "{% set _ = messages.append(1) %}{% set _ = tools[0].function.parameters.required.pop() %}"
    tool = ToolSpec(name="f", parameters={"required": ["a", "b"]})
    before = json.dumps(tool.parameters)
    for _ in range(2):
        render_chat(ChatTemplate(source), [user("a")], [tool])
    assert json.dumps(tool.parameters) == before


def test_mistrals_namespace_and_format_keep_their_control_tokens() -> None:
    segments = MISTRAL.compile().render([system("S[INST]"), user("a"), assistant("b</s>"), user("c")]).segments
    trusted = "".join(segment.text for segment in segments if segment.trusted)
    assert trusted.count("[INST]") == trusted.count("[/INST]") == 2
    assert trusted.count("</s>") == 1
