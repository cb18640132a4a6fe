"""Drafts in the scheduler: whatever is guessed, right or wrong, changes no token. Random, but seeded."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from localllm.engine.batch import Batch
from localllm.engine.kv_cache import Layout
from localllm.engine.sequence import Sequence
from tests.engine.test_equivalence import compare, play, random_settings, random_wishes
from tests.fakes import NUM_VOCAB, FakeRunner, Simulation, words

LAYOUTS: tuple[Layout, ...] = ("unified", "streams")

Draft = Callable[[Sequence, FakeRunner], list[int]]


def right(sequence: Sequence, runner: FakeRunner, count: int = 7) -> list[int]:
    """What the model will say."""
    return runner.predict(sequence.tokens, count)


def none(_sequence: Sequence, _runner: FakeRunner) -> list[int]:
    """Nothing."""
    return []


def mixed(rng: random.Random, most: int) -> Draft:
    """Now none, now right ones, now wrong ones, now right up to some place."""

    def draft(sequence: Sequence, runner: FakeRunner) -> list[int]:
        count = rng.randint(0, most)
        guess = runner.predict(sequence.tokens, rng.randint(0, count)) if rng.random() < 0.7 else []
        return guess + [rng.randrange(NUM_VOCAB) for _ in range(count - len(guess))]

    return draft


@pytest.mark.parametrize("first_seed", range(0, 400, 50))
def test_drafts_change_no_token(first_seed: int) -> None:
    num_accepted = 0
    for seed in range(first_seed, first_seed + 50):
        rng = random.Random(seed)
        settings = random_settings(rng) | {"kind": "plain", "force_one_in": rng.choice([0, 3, 10])}
        wishes = random_wishes(rng, settings["num_ctx"])
        simulation = Simulation(**settings, draft=mixed(rng, rng.choice([0, 1, 3, 15])))
        try:
            play(simulation, wishes)
            compare(simulation, wishes, settings)
            assert not simulation.unfit
        except Exception as exc:
            exc.add_note(f"seed {seed}, {settings}")
            raise
        num_accepted += sum(len(story.tokens) for story in simulation.stories.values()) - simulation.num_steps
    assert num_accepted > 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_right_drafts_save_steps(layout: Layout) -> None:
    simulation = Simulation(layout=layout, draft=right)
    sequence = simulation.add(words(1, 20), max_tokens=65)
    simulation.run()
    assert len(simulation.tokens_of(sequence)) == 65
    assert simulation.num_steps == 1 + 64 // 8


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wrong_drafts_cost_no_step_and_leave_no_cell(layout: Layout) -> None:
    def wrong(sequence: Sequence, runner: FakeRunner) -> list[int]:
        return [(token + 1) % NUM_VOCAB for token in right(sequence, runner)]

    simulation = Simulation(layout=layout, draft=wrong)
    simulation.add(words(1, 20), max_tokens=65)
    simulation.run()
    assert max(story.last_step or 0 for story in simulation.stories.values()) == 65
    assert simulation.runner.num_used <= 84


def test_drafts_send_nobody_back() -> None:
    """Cells for everyone's next token come before anyone's guesses."""
    num_steps = []
    for draft in (none, right):
        simulation = Simulation(num_slots=4, num_cells=410, num_batch=128, draft=draft)
        for number in range(4):
            simulation.add(words(number, 60), max_tokens=41)
        simulation.run()
        assert [story.sequence.num_preemptions for story in simulation.stories.values()] == [0, 0, 0, 0]
        num_steps.append(simulation.num_steps)
    assert num_steps[1] < num_steps[0]


def test_drafts_drive_out_no_prefix() -> None:
    simulation = Simulation(num_slots=2, num_cells=110, num_batch=128, draft=right)
    prefix = words(1, 50)
    simulation.add(prefix, max_tokens=1)
    simulation.run()
    simulation.add(words(2, 20), max_tokens=36)
    simulation.run()
    again = simulation.add(prefix, max_tokens=1)
    simulation.run()
    assert again.num_cached == 49


@pytest.mark.parametrize("num_hidden", [215, 219, 221])
def test_where_cells_are_missing_drafts_go_first(num_hidden: int) -> None:
    """llama.cpp found no cells, against the account: nobody is ended while guesses could be left out."""
    simulation = Simulation(num_slots=2, num_cells=300, num_hidden=num_hidden, num_batch=128, draft=right)
    for _ in range(2):
        sequence = simulation.add(words(1, 40), max_tokens=40)
        before = simulation.num_steps
        simulation.run()
        assert simulation.stories[sequence.id].finish == "length"
        assert len(simulation.tokens_of(sequence)) == 40
        # Until the end is near there is room for guesses, for the next sequence too.
        assert simulation.num_steps - before < 40
    assert not simulation.unfit
    assert simulation.num_no_space > 0


def test_a_state_that_cannot_be_cut_takes_no_drafts() -> None:
    simulation = Simulation(kind="hybrid", draft=right)
    sequence = simulation.add(words(1, 20), max_tokens=30)
    simulation.run()
    assert len(simulation.tokens_of(sequence)) == 30
    assert simulation.num_steps == 30


def test_the_length_of_prompt_chunks_is_not_learned_from_steps_with_drafts() -> None:
    def cost_us(batch: Batch) -> int:
        return 1000 * sum(len(chunk.tokens) for chunk in batch.chunks)

    def late_first_chunk(draft: Draft) -> int:
        simulation = Simulation(num_cells=8192, num_batch=512, target_us=100_000, cost_us=cost_us, draft=draft)
        simulation.add(words(1, 300), max_tokens=900)
        for _ in range(12):
            simulation.step()
        simulation.draft = none
        simulation.add(words(2, 900), max_tokens=1)
        return max(len(chunk.tokens) for chunk in simulation.step().chunks)

    assert late_first_chunk(lambda sequence, runner: right(sequence, runner, 50)) == late_first_chunk(none)
