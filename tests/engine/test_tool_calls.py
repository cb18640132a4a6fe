"""Tool calls from a real child with real weights, of a model whose template knows no tools."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from localllm.api import (
    ChatRequest,
    ChoiceFinished,
    Event,
    Finished,
    JsonSchema,
    Message,
    Notice,
    Regex,
    SamplingParams,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
    ToolChoice,
    ToolSpec,
)
from localllm.engine.frames import LoadSpec
from localllm.engine.process import EngineProcess
from localllm.errors import InvalidRequestError
from tests.engine.conftest import open_engine, run, spec_of

pytestmark = pytest.mark.weights

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city", "unit", "days"],
    "additionalProperties": False,
}
TOOLS = (ToolSpec("get_weather", "The weather of the next days.", WEATHER), ToolSpec("now", "The time."))
SCHEMAS = {"get_weather": WEATHER, "now": {"type": "object", "maxProperties": 0}}
ASK = "How will the weather be in Oslo for 3 days?"


def chat(text: str = ASK, mode: Any = "required", *names: str, tools: Any = TOOLS, **changes: Any) -> ChatRequest:
    fields: dict[str, Any] = {
        "sampling": SamplingParams(temperature=0, max_tokens=96),
        "tool_choice": ToolChoice(mode, names),
        **changes,
    }
    return ChatRequest("smollm2", (Message("user", text),), tools=tools, **fields)


@pytest.fixture
def spec(smollm2_path: Path) -> LoadSpec:
    """One thread: what is tested is what comes, and other tests want the cores too."""
    return spec_of(smollm2_path, num_threads=1)


async def answer(engine: EngineProcess, request: ChatRequest) -> list[Event]:
    return [event async for event in engine.chat(request)]


def calls_of(events: list[Event], index: int = 0) -> list[ToolCall]:
    """The whole calls, which are what their deltas say."""
    whole = [event for event in events if isinstance(event, ToolCallEvent) and event.index == index]
    deltas = [event for event in events if isinstance(event, ToolCallDelta) and event.index == index]
    for event in whole:
        own = [delta for delta in deltas if delta.position == event.position]
        assert (own[0].id, own[0].name) == (event.call.id, event.call.name)
        assert "".join(delta.arguments for delta in own) == event.call.arguments
    assert [event.position for event in whole] == list(range(len(whole)))
    return [event.call for event in whole]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def check(call: ToolCall) -> None:
    jsonschema.Draft202012Validator(SCHEMAS[call.name]).validate(json.loads(call.arguments))


def finish(events: list[Event]) -> Finished:
    finished = events[-1]
    assert isinstance(finished, Finished)
    return finished


def test_a_call_that_must_be_is_made_and_obeys_its_schema(spec: LoadSpec) -> None:
    samplings = [SamplingParams(temperature=0, max_tokens=160)] + [
        SamplingParams(temperature=1.2, seed=seed, max_tokens=160) for seed in range(4)
    ]

    async def main() -> None:
        async with open_engine(spec) as engine:
            asked = [chat(sampling=sampling, parallel_tool_calls=False) for sampling in samplings]
            asked += [chat("Hi", "required", "get_weather", sampling=sampling) for sampling in samplings[:3]]
            asked += [chat("Hi", "required", "now", parallel_tool_calls=False)]
            for request, events in zip(
                asked, await asyncio.gather(*(answer(engine, each) for each in asked)), strict=True
            ):
                calls = calls_of(events)
                assert text_of(events) == ""
                if request.tool_choice.names:
                    assert {call.name for call in calls} == set(request.tool_choice.names)
                if not request.parallel_tool_calls:
                    assert len(calls) == 1
                    assert finish(events).reason == "tool_calls"
                for call in calls[: len(calls) if finish(events).reason == "tool_calls" else -1]:
                    check(call)

    run(main)


def test_the_rest_of_what_a_choice_may_be(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec) as engine:
            events = await answer(engine, chat("Say hello.", "none"))
            assert text_of(events)
            assert not [event for event in events if isinstance(event, Notice | ToolCallEvent)]
            told = await answer(engine, chat("Say hello.", "auto"))
            assert [event.facts for event in told if isinstance(event, Notice)] == [{"tools": "described"}]
            prompt = (await engine.render(chat("Say hello.", "auto"))).prompt
            assert '"name": "get_weather"' in prompt
            assert "<tool_call>" in prompt
            assert "get_weather" not in (await engine.render(chat("Say hello.", "none"))).prompt
            strict = (ToolSpec("get_weather", "", WEATHER, strict=True),)
            asked = [
                chat(text, "auto", tools=strict, sampling=SamplingParams(temperature=1.0, seed=seed, max_tokens=120))
                for seed, text in enumerate([ASK, "Say hello.", 'Answer with exactly <tool_call>{"name": "x"}'])
            ]
            for events in await asyncio.gather(*(answer(engine, each) for each in asked)):
                if finish(events).reason == "tool_calls":
                    for call in calls_of(events):
                        check(call)
            events = await answer(engine, chat(n=2, parallel_tool_calls=False))
            assert all(len(calls_of(events, index)) == 1 for index in (0, 1))
            assert {event.reason for event in events if isinstance(event, ChoiceFinished)} == {"tool_calls"}

    run(main)


def test_text_bound_to_json_leaves_calls_possible(spec: LoadSpec) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}

    async def main() -> None:
        async with open_engine(spec) as engine:
            events = await answer(engine, chat("Is water wet?", "auto", constraint=JsonSchema(schema)))
            if calls := calls_of(events):
                check(calls[0])
            else:
                assert isinstance(json.loads(text_of(events))["ok"], bool)

    run(main)


def test_what_cannot_be_kept_is_refused_by_name(spec: LoadSpec) -> None:
    odd = {"type": "object", "properties": {"a": {"type": "string", "contentEncoding": "base64", "not": {}}}}
    refused = [
        (chat(mode="required", tools=()), "tool_choice"),
        (chat(ASK, "required", "absent"), "tool_choice"),
        (chat(tools=(*TOOLS, ToolSpec("now"))), "tools"),
        (chat(constraint=Regex("a+")), "constraint"),
        (chat(tools=(ToolSpec("odd", "", odd, strict=True),)), "tools"),
    ]

    async def main() -> None:
        async with open_engine(spec) as engine:
            for request, param in refused:
                with pytest.raises(InvalidRequestError) as error:
                    await answer(engine, request)
                assert error.value.facts["param"] == param
            # Without strict the arguments of such a tool are some object.
            events = await answer(engine, chat(tools=(ToolSpec("odd", "", odd),), parallel_tool_calls=False))
            for call in calls_of(events):
                assert call.name == "odd"

    run(main)


def test_calls_and_results_are_part_of_the_conversation(spec: LoadSpec) -> None:
    call = ToolCall("c1", "now", "{}")
    messages = (
        Message("user", "What time is it?"),
        Message("assistant", tool_calls=(call,)),
        Message("tool", "It is 12:34.", tool_call_id="c1"),
    )

    async def main() -> None:
        async with open_engine(spec) as engine:
            request = ChatRequest("smollm2", messages, SamplingParams(temperature=0, max_tokens=24), tools=TOOLS)
            prompt = (await engine.render(request)).prompt
            assert '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>' in prompt
            assert "It is 12:34." in prompt
            assert finish(await answer(engine, request)).usage.num_output_tokens

    run(main)
