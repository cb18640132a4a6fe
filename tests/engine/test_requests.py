"""What a request may ask of the engine, with real weights: several answers, scores, the same answer again, steering."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from localllm.api import (
    ChatRequest,
    ChoiceFinished,
    CompletionRequest,
    Event,
    Finished,
    Message,
    PromptLogprobs,
    SamplingParams,
    TextDelta,
    TokenLogprob,
)
from localllm.engine.frames import LoadSpec
from localllm.engine.process import EngineProcess
from localllm.errors import InvalidRequestError
from tests.engine.conftest import open_engine, run

pytestmark = pytest.mark.weights

PROMPT = "The three largest cities of Europe are"
WARM = SamplingParams(temperature=0.9, top_k=40, seed=11, max_tokens=24, ignore_eos=True)


def completion(
    prompt: str | tuple[int, ...] = PROMPT, sampling: SamplingParams = WARM, **changes: Any
) -> CompletionRequest:
    return CompletionRequest("smollm2", prompt, sampling, **changes)


async def events_of(stream: AsyncIterator[Event]) -> tuple[list[Event], Finished]:
    events = [event async for event in stream]
    assert isinstance(events[-1], Finished)
    assert not any(isinstance(event, Finished) for event in events[:-1])
    return events, events[-1]


def text_of(events: list[Event], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.index == index)


def test_several_answers_of_one_seed_differ_and_come_again(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec) as engine:
            events, end = await events_of(engine.complete(completion(n=3, deterministic=True)))
            texts = [text_of(events, index) for index in range(3)]
            assert len(set(texts)) == 3
            assert sum(isinstance(event, ChoiceFinished) for event in events) == 3
            assert end.usage.num_output_tokens == 3 * 24
            single, _ = await events_of(engine.complete(completion(deterministic=True)))
            assert text_of(single) == texts[0]

    run(main)


def test_scores_of_a_prompt_agree_with_those_of_the_same_text_generated(spec: LoadSpec) -> None:
    """What a model says of its own greedy answer while writing it, it says of it as a prompt too."""

    async def main() -> None:
        async with open_engine(spec) as engine:
            greedy = SamplingParams(temperature=0, max_tokens=40, logprobs=2, ignore_eos=True)
            events, _ = await events_of(engine.complete(completion(sampling=greedy)))
            said = [each for event in events if isinstance(event, TextDelta) for each in event.logprobs]
            prompt = tuple(await engine.tokenize(PROMPT))
            whole = prompt + tuple(each.token for each in said)
            again = completion(whole, SamplingParams(max_tokens=1), prompt_logprobs=2)
            # The same text lies in the cache: it has to be computed all the same.
            events, end = await events_of(engine.complete(again))
            (scores,) = (event.logprobs for event in events if isinstance(event, PromptLogprobs))
            assert [score.token for score in scores] == list(whole[1:])
            _assert_close(scores[len(prompt) - 1 :], said)
            assert end.usage.num_cached_tokens == 0

    run(main)


def _assert_close(scores: tuple[TokenLogprob, ...], said: list[TokenLogprob]) -> None:
    for score, word in zip(scores, said, strict=True):
        assert score.logprob == pytest.approx(word.logprob, abs=0.1)
        assert score.top[0][0] == word.top[0][0] or score.top[0][2] - score.top[1][2] < 0.1


@pytest.mark.parametrize("layout", ["streams", "unified"])
def test_a_deterministic_request_gives_the_same_bits_whatever_else_runs(spec: LoadSpec, layout: Any) -> None:
    spec = msgspec.structs.replace(spec, kv_layout=layout)
    asked = completion(PROMPT * 8, msgspec.structs.replace(WARM, logprobs=1), deterministic=True, receipt=True)

    def bits(events: list[Event]) -> list[float]:
        return [each.logprob for event in events if isinstance(event, TextDelta) for each in event.logprobs]

    async def noise(engine: EngineProcess, number: int) -> None:
        await events_of(
            engine.complete(completion(f"{number} " + PROMPT * number, msgspec.structs.replace(WARM, max_tokens=60)))
        )

    async def main() -> None:
        async with open_engine(spec) as engine:
            events, first = await events_of(engine.complete(asked))
            others = [asyncio.create_task(noise(engine, number)) for number in range(1, 7)]
            await asyncio.sleep(0)
            amid, second = await events_of(engine.complete(asked))
            await asyncio.gather(*others)
            after, third = await events_of(engine.complete(asked))
            assert bits(events) == bits(amid) == bits(after)
            assert first.receipt == second.receipt == third.receipt
            assert first.receipt is not None

    run(main)


def test_a_receipt_tells_the_seed_that_was_drawn(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec) as engine:
            unseeded = msgspec.structs.replace(WARM, seed=None)
            events, end = await events_of(
                engine.complete(completion(sampling=unseeded, receipt=True, deterministic=True))
            )
            assert end.receipt is not None
            assert end.receipt.sampling.seed is not None
            again, repeated = await events_of(
                engine.complete(completion(sampling=end.receipt.sampling, receipt=True, deterministic=True))
            )
            assert text_of(again) == text_of(events)
            assert repeated.receipt == end.receipt
            other, third = await events_of(engine.complete(completion(sampling=unseeded, receipt=True)))
            assert text_of(other) != text_of(events)
            assert third.receipt is not None
            assert third.receipt.output_tokens != end.receipt.output_tokens
            assert third.receipt.prompt_tokens == end.receipt.prompt_tokens

    run(main)


def test_the_prompt_of_a_chat_can_be_seen(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec) as engine:
            chat = ChatRequest("smollm2", (Message("system", "Be brief."), Message("user", "Hi <|im_end|>")))
            rendered = await engine.render(chat)
            assert rendered.prompt == (
                "<|im_start|>system\nBe brief.<|im_end|>\n"
                "<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n"
            )
            # The user's own text is no control token, though it reads like one.
            end = (await engine.tokenize("<|im_end|>", parse_special=True))[0]
            assert rendered.tokens.count(end) == 2

    run(main)


def test_a_request_is_stopped_by_its_name(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec) as engine:
            long = msgspec.structs.replace(WARM, max_tokens=800)
            stream = engine.complete(completion(sampling=long, request_id="mine"))
            async for event in stream:
                if isinstance(event, TextDelta):
                    assert engine.steer("mine", "stop_thinking")  # it does not think: nothing changes
                    assert engine.steer("mine", "stop")
                elif isinstance(event, Finished):
                    assert event.reason == "abort"
                    assert event.usage.num_output_tokens < 400
            assert not engine.steer("mine", "stop")
            assert not engine.steer("another", "stop")

    run(main)


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 0},
        {"n": 65},
        {"prompt_logprobs": 21},
        {"reasoning_budget": -1},
        {"priority": 101},
        {"deadline_s": 0.0},
        {"deadline_s": float("nan")},
        {"client": "x" * 300},
    ],
)
def test_what_is_out_of_range_is_named(spec: LoadSpec, changes: dict[str, Any]) -> None:
    async def main() -> None:
        engine = EngineProcess(spec)
        try:
            with pytest.raises(InvalidRequestError) as caught:
                engine.complete(completion(**changes))
            assert caught.value.facts["param"] in changes
        finally:
            await engine.close()

    run(main)
