"""Drafts in llama.cpp: with every sampler and layout the tokens are those of a run without drafts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.api import CompletionRequest, Finished, SamplingParams, TextDelta
from localllm.binding import set_log
from localllm.engine.frames import LoadSpec
from localllm.engine.kv_cache import KVCache
from localllm.engine.llama import LlamaModel, LlamaRunner
from localllm.engine.process import EngineProcess
from localllm.engine.scheduler import Scheduler
from localllm.engine.sequence import Sequence
from localllm.engine.step_cost import StepCost
from tests.engine.conftest import open_engine, run, spec_of
from tests.tiny_models import EXACT, Kind

TinyModel = Callable[..., Path]
Draft = Callable[[Sequence], list[int]]
MAX_DRAFTS = 7
NUM_TOKENS = 32
TEXTS = ("the cat", "A quite different beginning, Grüße 🦙", "x", "one two three four five six seven eight " * 3)

SAMPLINGS = {
    "greedy": SamplingParams(temperature=0),
    "free": SamplingParams(temperature=1.5, top_k=0, top_p=1.0, min_p=0.0, seed=1),
    "default": SamplingParams(seed=2),
    "penalties": SamplingParams(repeat_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.3, seed=3),
    "dry": SamplingParams(dry_multiplier=0.8, temperature=0),
    "mirostat": SamplingParams(mirostat=1, seed=4),
    "mirostat_v2": SamplingParams(mirostat=2, seed=5),
    "xtc": SamplingParams(xtc_probability=0.5, xtc_threshold=0.05, seed=6),
    "typical": SamplingParams(typical_p=0.7, top_n_sigma=2.0, seed=7),
}


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    """llama.cpp's log would bury what failed."""
    set_log(lambda _level, _text: None)


class Bench:
    """Scheduler and runner over a tiny model, in this process."""

    def __init__(self, spec: LoadSpec) -> None:
        self.spec = spec
        self.model = LlamaModel(spec, lambda _fraction: True)
        self.runner = LlamaRunner(self.model, spec)
        self.num_steps = 0

    def answers(self, sampling: SamplingParams, draft: Draft) -> list[list[int]]:
        """What follows each of TEXTS, all computed together."""
        spec = self.spec
        cache = KVCache(spec.num_slots, spec.num_cells, spec.kv_layout)
        cost = StepCost(spec.num_batch, spec.step_target_us)
        scheduler = Scheduler(cache, cost, num_ctx=spec.num_ctx, num_batch=spec.num_batch)
        sequences = []
        for number, text in enumerate(TEXTS, 1):
            sequences.append(Sequence(number, self.model.vocab.tokenize(text), NUM_TOKENS, number))
            self.runner.open(number, sampling, sequences[-1].tokens)
            scheduler.add(sequences[-1])
        self.num_steps = 0
        while scheduler.num_running or scheduler.num_waiting:
            for sequence in scheduler.decoding:
                sequence.drafts = draft(sequence)
            batch = scheduler.schedule()
            for output in scheduler.update(batch, self.runner.run(batch), 1000):
                if output.finish is not None:
                    self.runner.release(output.sequence.id)
            self.num_steps += 1
        if ops := scheduler.schedule():
            self.runner.run(ops)
        for slot in range(spec.num_slots):
            self.runner.states.trim(slot, 0)
        return [sequence.tokens[sequence.num_prompt :] for sequence in sequences]

    def close(self) -> None:
        self.runner.close()
        self.model.close()


@pytest.fixture
def bench(tiny_model: TinyModel) -> Iterator[Callable[..., Bench]]:
    """Makes benches and closes them."""
    made: list[Bench] = []

    def make(kind: Kind, **changes: Any) -> Bench:
        options = {"num_ctx": 256, "num_cells": 1024, "max_drafts": MAX_DRAFTS, **EXACT, **changes}
        made.append(Bench(spec_of(tiny_model(kind), **options)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def mixed(truth: list[list[int]], rng: random.Random) -> Draft:
    """Drafts that are right up to some place, and then wrong."""

    def draft(sequence: Sequence) -> list[int]:
        coming = truth[sequence.id - 1][sequence.num_output :]
        count = rng.randint(0, MAX_DRAFTS)
        right = coming[: rng.randint(0, count)]
        return right + [rng.randrange(256) for _ in range(count - len(right))]

    return draft


@pytest.mark.parametrize("kind", ["llama", "moe", "iswa"])
@pytest.mark.parametrize("layout", ["streams", "unified"])
def test_drafts_change_no_token(bench: Callable[..., Bench], kind: Kind, layout: str) -> None:
    one = bench(kind, kv_layout=layout)
    truth = one.answers(SAMPLINGS["greedy"], lambda _: [])
    num_steps = one.num_steps
    assert one.answers(SAMPLINGS["greedy"], mixed(truth, random.Random(1))) == truth
    assert one.num_steps < num_steps


def test_no_sampler_notices_drafts(bench: Callable[..., Bench]) -> None:
    one = bench("llama")
    seen: list[list[list[int]]] = []
    for name, sampling in SAMPLINGS.items():
        truth = one.answers(sampling, lambda _: [])
        num_steps = one.num_steps
        assert one.answers(sampling, mixed(truth, random.Random(2))) == truth, name
        assert one.num_steps < num_steps, name
        assert truth not in seen or name == "dry", name
        seen.append(truth)


# --- in an engine child -----------------------------------------------------------------------------------------------

LISTING = "".join(
    f"def get_{name}(self):\n    return self.{name}\n\n" for name in ("name", "size", "kind", "owner", "colour")
)


async def complete(engine: EngineProcess, prompt: str, **options: Any) -> tuple[str, Finished]:
    text = ""
    sampling = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)
    async for event in engine.complete(CompletionRequest("m", prompt, sampling, **options)):
        if isinstance(event, TextDelta):
            text += event.text
        if isinstance(event, Finished):
            return text, event
    raise AssertionError("a stream ends in Finished")


@pytest.mark.weights
def test_a_repetitive_answer_takes_fewer_steps_and_is_the_same(spec: LoadSpec) -> None:
    async def main() -> None:
        options = {"max_drafts": 15, "num_slots": 1, "num_cells": 1024, **EXACT}
        async with open_engine(spec_of(Path(spec.paths[0]), **options)) as engine:
            plain, off = await complete(engine, 3 * LISTING, speculate=False)
            assert (off.usage.num_drafted_tokens, off.usage.num_accepted_tokens) == (0, 0)
            # Whether it drafts depends on measured times: one step that a busy machine held up, and it waits a while.
            for _ in range(10):
                drafted, on = await complete(engine, 3 * LISTING, speculate=True)
                assert drafted == plain
                assert on.usage.num_output_tokens == 60
                assert on.usage.num_accepted_tokens <= on.usage.num_drafted_tokens
                if on.usage.num_accepted_tokens:
                    return
        raise AssertionError("no draft was right in ten answers that all say the same")

    run(main)


@pytest.mark.parametrize("kind", ["mamba", "hybrid"])
def test_models_whose_state_cannot_be_cut_get_no_drafts(tiny_model: TinyModel, kind: Kind) -> None:
    async def main() -> None:
        async with open_engine(spec_of(tiny_model(kind), max_drafts=15, host_tokens=0)) as engine:
            _, end = await complete(engine, "abcabcabc" * 20, speculate=True)
        assert end.usage.num_output_tokens == 60
        assert end.usage.num_drafted_tokens == 0

    run(main)
