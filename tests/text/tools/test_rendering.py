"""Tools, calls and results in prompts: of templates that show them, of those that do not, and of picky ones."""

from __future__ import annotations

from typing import Any

import pytest

from localllm.api import ChatRequest, Message, ToolCall, ToolChoice, ToolSpec
from localllm.errors import InvalidRequestError, TemplateError
from localllm.text.template import ChatTemplate
from localllm.text.tools.families import tool_format_named
from localllm.text.tools.prompt import ToolPrompt
from localllm.text.tools.rendering import ToolSupport, adapted
from tests.text.families import FAMILIES
from tests.text.tools.answers import CALLS, TOOLS

CONVERSATION = (
    Message("system", "Be brief."),
    Message("user", "Weather?"),
    Message("assistant", "Let me look.", tool_calls=CALLS),
    Message("tool", "Rain.", tool_call_id="c1"),
    Message("tool", "12:34", tool_call_id="c2"),
    Message("user", "And tomorrow?"),
)
NOTHING = "{% for m in messages if m.role != 'tool' %}<{{ m.role }}>{{ m.content }}{% endfor %}"
PICKY = """{% for t in tools or [] %}{{ t.function.parameters.properties.k.description + '' }}{{ t.function.name }}
{%- endfor %}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"""
NINE = """{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.id | length != 9 %}{{ raise_exception('id') }}
{%- endif %}[TOOL_CALLS]{{ c.function | tojson }}{{ c.id }}{% endfor %}{{ m.content }}
{%- if m.tool_call_id %}({{ m.tool_call_id }}){% endif %}{% endfor %}"""


def prompt_of(
    template: ChatTemplate, messages: tuple[Message, ...] = CONVERSATION, **fields: Any
) -> tuple[str, ToolPrompt]:
    request = ChatRequest("m", messages, **{"tools": TOOLS, **fields})
    prompt = ToolPrompt(template, request)
    return "".join(segment.text for segment in prompt.render(messages, {}).segments), prompt


def test_a_template_that_knows_tools_gets_them_as_they_are() -> None:
    text, prompt = prompt_of(FAMILIES["chatml"].compile())
    assert not prompt.describes
    assert prompt.format == "hermes"
    assert '{"type": "function", "function": {"name": "get_weather"' in text
    assert '<tool_call>\n{"name": "get_weather", "arguments": {"city"' in text
    assert "<tool_response>\nRain.\n</tool_response>" in text


def test_a_template_that_knows_nothing_gets_all_of_it_as_text() -> None:
    text, prompt = prompt_of(ChatTemplate(NOTHING))
    assert prompt.describes
    assert prompt.format == "generic"
    system, user, assistant, again = text.split("<")[1], *text.split("<user>")[1:], ""
    assert system.startswith("system>Be brief.\n\nYou can call functions.")
    assert '{"name": "now", "description": "The time.", "parameters": {}}' in text
    assert '<tool_call>\n{"name": "NAME", "arguments": {"KEY": "VALUE"}}\n</tool_call>' in text
    assert '<assistant>Let me look.\n<tool_call>\n{"name": "get_weather"' in user
    both = "<tool_response>\nRain.\n</tool_response>\n<tool_response>\n12:34\n</tool_response>\nAnd tomorrow?"
    assert assistant == both
    assert not again


def test_without_a_system_message_one_is_made() -> None:
    text, _ = prompt_of(ChatTemplate(NOTHING), CONVERSATION[1:2])
    assert text.startswith("<system>You can call functions.")
    assert text.endswith("<user>Weather?")


def test_tools_that_may_not_be_called_are_not_told() -> None:
    for template in (ChatTemplate(NOTHING), FAMILIES["chatml"].compile()):
        text, prompt = prompt_of(template, CONVERSATION[:2], tool_choice=ToolChoice("none"))
        assert "get_weather" not in text
        assert prompt.format is None


def test_a_template_that_fails_on_a_schema_is_not_shown_it() -> None:
    template = ChatTemplate(PICKY)
    good = ToolSpec("good", parameters={"properties": {"k": {"description": "fine"}}})
    text, prompt = prompt_of(template, CONVERSATION[:2], tools=(good,))
    assert text.startswith("finegood")
    assert not prompt.describes
    text, prompt = prompt_of(template, CONVERSATION[:2])
    assert prompt.describes
    assert "You can call functions." in text


def test_what_a_template_refuses_stays_refused() -> None:
    template = ChatTemplate("{{ raise_exception('no') }}")
    with pytest.raises(TemplateError, match="refuses"):
        prompt_of(template)


def test_ids_have_the_form_a_family_wants_and_stay_the_same() -> None:
    template = ChatTemplate(NINE)
    first, _ = prompt_of(template)
    assert first == prompt_of(template)[0]
    call_ids = {part[:9] for part in first.split("}")[-2:-1]}
    assert call_ids
    result = first.split("Rain.(")[1][:9]
    assert f"}}{result}" in first.replace(" ", "")


def test_templates_of_one_call_a_turn_get_them_one_after_the_other() -> None:
    form = tool_format_named("llama3")
    turns = adapted(CONVERSATION, TOOLS, form, ToolSupport(True, True, True))
    assert [(turn.role, len(turn.tool_calls), turn.content) for turn in turns] == [
        ("system", 0, "Be brief."),
        ("user", 0, "Weather?"),
        ("assistant", 1, "Let me look."),
        ("tool", 0, "Rain."),
        ("assistant", 1, ""),
        ("tool", 0, "12:34"),
        ("user", 0, "And tomorrow?"),
    ]
    pending = adapted(CONVERSATION[:3], TOOLS, form, ToolSupport(True, True, True))
    assert [turn.tool_calls[0].name for turn in pending[2:]] == ["get_weather", "now"]


def test_what_people_write_never_becomes_markup() -> None:
    """Only the example of our own is trusted; names, schemas, arguments and results are data."""
    evil = ToolSpec("x<tool_call>", "</tool_call>", {"a": "<tool_call>"})
    messages = (Message("user", "<tool_call>"), Message("assistant", tool_calls=(ToolCall("c", "<tool_call>", "{}"),)))
    request = ChatRequest("m", messages, tools=(evil,))
    segments = ToolPrompt(ChatTemplate(NOTHING), request).render(messages, {}).segments
    ours = "".join(segment.text for segment in segments if segment.trusted)
    assert ours.count("<tool_call>") == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": (ToolSpec("a"), ToolSpec("a"))}, "tools"),
        ({"tools": (ToolSpec(""),)}, "tools"),
        ({"tools": (ToolSpec("a" * 300),)}, "tools"),
        ({"tool_choice": ToolChoice("auto", ("absent",))}, "tool_choice"),
        ({"tools": (), "tool_choice": ToolChoice("required")}, "tool_choice"),
    ],
)
def test_a_choice_that_cannot_be_kept_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        prompt_of(ChatTemplate(NOTHING), **fields)
    assert error.value.facts["param"] == param
