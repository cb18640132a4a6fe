"""Prefixes of every kind of memory llama.cpp has, with real contexts: how many tokens were cached, and equal answers.

That a call into llama.cpp succeeded proves nothing here: each answer is compared with that of a context of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.api import SamplingParams
from localllm.binding import set_log
from localllm.engine.checkpoints import INTERVAL, TAIL
from localllm.engine.kv_cache import KVCache, Layout
from localllm.engine.llama import LlamaModel, LlamaRunner
from localllm.engine.scheduler import Scheduler
from localllm.engine.sequence import Sequence
from localllm.engine.step_cost import StepCost
from tests.engine.conftest import spec_of
from tests.tiny_models import EXACT, KINDS, WINDOW, Kind

TinyModel = Callable[..., Path]
GREEDY = SamplingParams(temperature=0, ignore_eos=True)
LAYOUTS: tuple[Layout, ...] = ("streams", "unified")
NUM_OUTPUT = 12


class Machine:
    """A model, its context and what decides over it, in this process."""

    def __init__(self, path: Path, **changes: Any) -> None:
        wanted = {
            "num_ctx": 1024,
            "num_cells": 4096,
            "num_slots": 4,
            "host_tokens": 1 << 20,
            "num_threads": 1,
            **EXACT,
            **changes,
        }
        spec = spec_of(path, **wanted)
        self.model = LlamaModel(spec, lambda _fraction: True)
        self.runner = LlamaRunner(self.model, spec)
        self.cache = KVCache(
            spec.num_slots,
            spec.num_cells,
            spec.kv_layout,
            kind=self.model.kind,
            turn_tokens=self.model.turn_tokens(),
            host_tokens=spec.host_tokens,
            cost=self.runner.state_cost(),
        )
        cost = StepCost(spec.num_batch, spec.step_target_us)
        self.scheduler = Scheduler(self.cache, cost, num_ctx=spec.num_ctx, num_batch=spec.num_batch)
        self._next_id = 0

    def add(self, prompt: list[int], num_output: int = NUM_OUTPUT) -> Sequence:
        self._next_id += 1
        sequence = Sequence(self._next_id, list(prompt), num_output, self._next_id)
        self.runner.open(sequence.id, GREEDY, prompt)
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> bool:
        """One step; False: there was nothing to do."""
        batch = self.scheduler.schedule()
        if not batch:
            return False
        for output in self.scheduler.update(batch, self.runner.run(batch), 1000):
            if output.finish is not None:
                self.runner.release(output.sequence.id)
        self.scheduler.check_integrity()
        return True

    def run(self, *prompts: list[int]) -> list[Sequence]:
        """Compute prompts together."""
        sequences = [self.add(prompt) for prompt in prompts]
        while self.step():
            pass
        return sequences

    def close(self) -> None:
        self.runner.close()
        self.model.close()


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    """llama.cpp's log would bury what failed."""
    set_log(lambda _level, _text: None)


@pytest.fixture
def machine(tiny_model: TinyModel) -> Iterator[Callable[..., Machine]]:
    """Machines that are closed in the end."""
    made: list[Machine] = []

    def make(kind: Kind, **changes: Any) -> Machine:
        made.append(Machine(tiny_model(kind), **changes))
        return made[-1]

    yield make
    for one in made:
        one.close()


def fresh_answer(path: Path, prompt: list[int], num_output: int = NUM_OUTPUT) -> list[int]:
    """What a context that knows nothing says."""
    alone = Machine(path, num_cells=1024, num_slots=1, kv_layout="unified", host_tokens=0)
    try:
        sequence = alone.add(prompt, num_output)
        while alone.step():
            pass
        assert sequence.num_cached == 0
        return sequence.output
    finally:
        alone.close()


def words(seed: int, count: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(256) for _ in range(count)]


def check(path: Path, *sequences: Sequence) -> None:
    for sequence in sequences:
        assert sequence.output == fresh_answer(path, sequence.tokens[: sequence.num_prompt])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_goes_on_where_it_was(
    machine: Callable[..., Machine], tiny_model: TinyModel, kind: Kind, layout: Layout
) -> None:
    one = machine(kind, kv_layout=layout)
    history = words(1, 200)
    for turn in range(3):
        (sequence,) = one.run(history)
        assert sequence.num_cached == (0 if turn == 0 else len(history) - 40 - 1)
        check(tiny_model(kind), sequence)
        history = sequence.tokens + words(10 + turn, 40)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_prompt_again_is_nearly_all_there(
    machine: Callable[..., Machine], tiny_model: TinyModel, kind: Kind, layout: Layout
) -> None:
    one = machine(kind, kv_layout=layout)
    prompt = words(1, 200)
    cached = [one.run(prompt)[0] for _ in range(3)]
    assert all(sequence.num_cached >= 200 - TAIL for sequence in cached[1:])
    check(tiny_model(kind), *cached)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_edited_last_turn_goes_on_before_it(
    machine: Callable[..., Machine], tiny_model: TinyModel, kind: Kind, layout: Layout
) -> None:
    """Also when other conversations took the slots meanwhile, so that only saved states are left."""
    one = machine(kind, kv_layout=layout, host_tokens=1 << 24)
    start = next(token.id for token in one.model.vocab.special_tokens if token.text == "<|im_start|>")
    end = next(token.id for token in one.model.vocab.special_tokens if token.text == "<|im_end|>")
    before = [start, *words(1, 150), end, start, *words(2, 120), end]
    (first,) = one.run([*before, start, *words(3, 60), end, start, 7, 8])
    assert first.num_cached == 0
    for others in ([], [words(50 + number, 300) for number in range(8)]):
        one.run(*others)
        (edited,) = one.run([*before, start, *words(len(others) + 4, 50), end, start, 7, 8])
        assert edited.num_cached in range(len(before) - 2, len(before) + 2)
        check(tiny_model(kind), edited)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_branches_of_a_long_text_share_its_beginning(
    machine: Callable[..., Machine], tiny_model: TinyModel, kind: Kind, layout: Layout
) -> None:
    one = machine(kind, kv_layout=layout, num_batch=512)
    text = words(1, 3 * INTERVAL)
    one.run(text)
    for at in (INTERVAL + 30, 2 * INTERVAL + 100, 50):
        (branch,) = one.run([*text[:at], *words(at, 40)])
        assert branch.num_cached >= at // INTERVAL * INTERVAL
        check(tiny_model(kind), branch)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_many_at_once_compute_their_common_beginning_once(
    machine: Callable[..., Machine], tiny_model: TinyModel, kind: Kind, layout: Layout
) -> None:
    one = machine(kind, kv_layout=layout)
    system = words(1, 300)
    sequences = one.run(*([*system, *words(20 + number, 30)] for number in range(9)))
    assert sequences[0].num_cached == 0
    assert all(sequence.num_cached >= 300 - 16 for sequence in sequences[1:])
    check(tiny_model(kind), *sequences)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_saved_window_is_not_cut(machine: Callable[..., Machine], tiny_model: TinyModel, layout: Layout) -> None:
    """What llama.cpp saves of a sliding layer is its last window: cut back further, it would answer nonsense."""
    one = machine("iswa", kv_layout=layout, num_slots=1, num_cells=1024, host_tokens=1 << 20)
    text = words(1, 8 * WINDOW)
    one.run(text)
    one.run(words(2, 300))  # takes the only slot
    (branch,) = one.run([*text[: 4 * WINDOW], *words(3, 20)])
    check(tiny_model("iswa"), branch)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first_seed", [0, pytest.param(100, marks=pytest.mark.long)])
def test_random_traffic(
    machine: Callable[..., Machine], tiny_model: TinyModel, kind: Kind, layout: Layout, first_seed: int
) -> None:
    """Prompts that share beginnings, come in bursts and drive each other out of cells and host memory."""
    answers: dict[tuple[int, ...], list[int]] = {}
    for seed in range(first_seed, first_seed + (20 if first_seed else 3)):
        rng = random.Random(f"{seed} {kind} {layout}")
        num_slots = rng.choice([1, 2, 4])
        cells = num_slots * 512 if layout == "streams" else rng.choice([512, 1024])
        host_tokens = rng.choice([0, 700, 1 << 20]) * (16_000 if kind == "mamba" else 1)
        one = machine(
            kind, kv_layout=layout, num_slots=num_slots, num_cells=cells, num_ctx=512, host_tokens=host_tokens
        )
        stems = [words(rng.randrange(1000), rng.randint(40, 300)) for _ in range(2)]
        sequences: list[Sequence] = []
        for _ in range(8):
            stem = rng.choice([*stems, *(sequence.tokens for sequence in sequences if sequence.num_left == 0)])
            prompt = [*stem[: rng.randint(1, 350)], *words(rng.randrange(10**6), rng.randint(1, 80))]
            sequences.append(one.add(prompt, rng.randint(1, 20)))
            for _ in range(rng.choice([0, 1, 3, 30])):
                one.step()
        while one.step():
            pass
        for sequence in sequences:
            prompt = sequence.tokens[: sequence.num_prompt]
            expected = answers.get(tuple(prompt)) or fresh_answer(tiny_model(kind), prompt, 20)
            answers[tuple(prompt)] = expected
            assert sequence.output == expected[: sequence.num_output], (seed, sequence)
