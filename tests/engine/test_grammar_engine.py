"""Bound answers from a real child with real weights: with every sampler, in company, at their limits."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import jsonschema
import msgspec
import pytest

from localllm.api import (
    ChatRequest,
    Choice,
    CompletionRequest,
    Constraint,
    Event,
    Finished,
    Gbnf,
    JsonObject,
    JsonSchema,
    Lark,
    Message,
    Regex,
    SamplingParams,
    TextDelta,
)
from localllm.engine.frames import LoadSpec
from localllm.engine.process import EngineProcess
from localllm.errors import InvalidRequestError
from tests.engine.conftest import open_engine, run
from tests.engine.test_grammar import HOSTILE

pytestmark = [pytest.mark.weights, pytest.mark.long]

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "occupation": {"enum": ["baker", "barber", "teacher"]},
    },
    "required": ["name", "age", "occupation"],
    "additionalProperties": False,
}
GREEDY = SamplingParams(temperature=0, max_tokens=96)
ASK = "Describe Ann, 31, a teacher, as JSON."


def chat(constraint: Constraint | None, text: str = ASK, **sampling: Any) -> ChatRequest:
    params = msgspec.structs.replace(GREEDY, **sampling)
    return ChatRequest("smollm2", (Message("user", text),), params, constraint=constraint)


async def answer(engine: EngineProcess, request: ChatRequest) -> tuple[str, Finished, list[Event]]:
    events = [event async for event in engine.chat(request)]
    finished = events[-1]
    assert isinstance(finished, Finished)
    return "".join(event.text for event in events if isinstance(event, TextDelta)), finished, events


def check_person(text: str) -> None:
    jsonschema.Draft202012Validator(PERSON).validate(json.loads(text))


SAMPLERS: list[dict[str, Any]] = [
    {},
    {"temperature": 1.0, "seed": 1},
    {"temperature": 1.5, "top_k": 5, "seed": 2},
    {"temperature": 1.0, "top_p": 0.5, "min_p": 0.2, "seed": 3},
    {"temperature": 1.0, "typical_p": 0.3, "seed": 4},
    {"temperature": 1.0, "top_n_sigma": 1.0, "seed": 5},
    {"temperature": 1.0, "xtc_probability": 1.0, "xtc_threshold": 0.05, "seed": 6},
    {"temperature": 1.0, "mirostat": 1, "seed": 7},
    {"temperature": 1.0, "mirostat": 2, "seed": 8},
    {"dry_multiplier": 2.0, "dry_allowed_length": 1},
    {"repeat_penalty": 1.5, "presence_penalty": 2.0, "frequency_penalty": 1.0},
    {"logit_bias": {18: -100.0, 3: 50.0}},
    {"ignore_eos": True},
    {"logprobs": 3},
]


def test_every_sampler_keeps_to_the_schema(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec) as engine:
            asked = (answer(engine, chat(JsonSchema(PERSON), **sampling)) for sampling in SAMPLERS)
            for text, finished, _ in await asyncio.gather(*asked):
                check_person(text)
                assert finished.reason == "stop"

    run(main)


def test_every_kind_of_constraint(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec) as engine:
            ask = "Describe a person named Ann who is 31 years old, as JSON."
            text, _, _ = await answer(engine, chat(JsonObject(), ask, max_tokens=200))
            assert isinstance(json.loads(text), dict)
            text, _, _ = await answer(engine, chat(Regex(r"\d{3}-\d{4}"), "Your number?"))
            assert len(text) == 8
            text, finished, _ = await answer(engine, chat(Choice(("red", "green")), "A colour?"))
            assert text in ("red", "green")
            assert finished.reason == "stop"
            text, _, _ = await answer(engine, chat(Lark('start: "It is " ("yes" | "no") "."'), "Is water wet?"))
            assert text in ("It is yes.", "It is no.")
            text, _, _ = await answer(engine, chat(Gbnf('root ::= [0-9]{3} "!" | "(" root ")"'), "A number?"))
            assert text.strip("()")[3] == "!"
            request = CompletionRequest("smollm2", "Ann is", GREEDY, constraint=Choice((" happy", " sad")))
            events = [event async for event in engine.complete(request)]
            assert "".join(e.text for e in events if isinstance(e, TextDelta)) in (" happy", " sad")

    run(main)


def test_bound_and_free_answers_in_company_are_those_alone(spec: LoadSpec) -> None:
    texts = [f"Describe person {n}, who is {n + 20}, as JSON." for n in range(4)]
    requests = [chat(constraint, text, max_tokens=48) for text in texts for constraint in (JsonSchema(PERSON), None)]
    big = msgspec.structs.replace(spec, num_slots=8, num_cells=8 * spec.num_ctx)

    async def main() -> None:
        async with open_engine(big) as engine:
            alone = [(await answer(engine, request))[0] for request in requests]
        async with open_engine(big) as engine:
            together = await asyncio.gather(*(answer(engine, request) for request in requests))
        # Rounding differs with the batch: where two tokens are as likely as each other, the answers may part.
        same = sum(text == mine for mine, (text, _, _) in zip(alone, together, strict=True))
        assert same >= len(requests) - 1
        for text, finished, _ in together[::2]:
            if finished.reason == "stop":
                check_person(text)

    run(main)


def test_forced_tokens_change_nothing_but_the_time(spec: LoadSpec) -> None:
    """With log probabilities nothing is forced; greedily the answer is the same."""

    async def main() -> None:
        async with open_engine(spec) as engine:
            fast, first, _ = await answer(engine, chat(JsonSchema(PERSON)))
            slow, second, events = await answer(engine, chat(JsonSchema(PERSON), logprobs=0))
            assert first.usage.num_forced_tokens >= 10
            assert second.usage.num_forced_tokens == 0
            assert fast == slow
            logprobs = [p for event in events if isinstance(event, TextDelta) for p in event.logprobs]
            assert b"".join(p.text for p in logprobs).decode() == slow
            assert len(logprobs) == second.usage.num_output_tokens

    run(main)


@pytest.mark.parametrize("max_tokens", [0, 1, 5])
def test_max_tokens_bounds_forced_tokens_too(spec: LoadSpec, max_tokens: int) -> None:
    async def main() -> None:
        async with open_engine(spec) as engine:
            _, finished, _ = await answer(engine, chat(JsonSchema(PERSON), max_tokens=max_tokens))
            assert finished.reason == "length"
            assert finished.usage.num_output_tokens == max_tokens

    run(main)


def test_stop_strings_and_limits(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec) as engine:
            text, finished, _ = await answer(engine, chat(JsonSchema(PERSON), stop=('"age"',)))
            assert finished.stop == '"age"'
            assert text.startswith('{"name": ')
            assert "age" not in text
            # A finite grammar, and every token that could end it banned: it ends all the same.
            text, finished, _ = await answer(engine, chat(Choice(("yes", "yes!")), ignore_eos=True))
            assert text == "yes!"
            assert finished.reason == "stop"
            # The only token that may come is banned.
            text, _, _ = await answer(engine, chat(Choice(("yes",)), logit_bias=dict.fromkeys(range(1000), -100.0)))
            assert text == "yes"

    run(main)


def test_several_answers_of_one_request(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec) as engine:
            request = msgspec.structs.replace(chat(JsonSchema(PERSON), temperature=1.2, seed=5), n=3)
            events = [event async for event in engine.chat(request)]
            texts = ["".join(e.text for e in events if isinstance(e, TextDelta) and e.index == i) for i in range(3)]
            for text in texts:
                check_person(text)
            assert len(set(texts)) > 1

    run(main)


def test_hostile_constraints_leave_the_child_alive(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec) as engine:
            await answer(engine, chat(JsonObject(), max_tokens=1))
            for name, constraint in HOSTILE.items():
                async with asyncio.timeout(3):
                    with pytest.raises(InvalidRequestError):
                        await answer(engine, chat(constraint))
                assert engine.is_alive, name
            text, _, _ = await answer(engine, chat(JsonSchema(PERSON)))
            check_person(text)

    run(main)


def test_a_constraint_that_grows_too_complex_is_one_error(spec: LoadSpec) -> None:
    """Every further "a" can be read in more ways than the last, until a limit is met. Nobody else minds."""
    ambiguous = Lark('start: s\ns: s s s | "a"')

    async def main() -> None:
        async with open_engine(spec) as engine:
            free = asyncio.create_task(answer(engine, chat(None, max_tokens=24)))
            with pytest.raises(InvalidRequestError, match="too complex") as caught:
                await answer(engine, chat(ambiguous, ignore_eos=True, max_tokens=900))
            assert caught.value.hint
            _, finished, _ = await free
            assert finished.usage.num_output_tokens == 24
            assert engine.num_active == 0

    run(main)
