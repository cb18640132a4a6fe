from __future__ import annotations

from typing import Any

import pytest

from localllm.engine.kv_cache import Layout
from localllm.engine.scheduler import ALONE_CHUNK
from localllm.engine.sequence import Sequence
from localllm.engine.turns import Turns
from tests.fakes import Simulation, words

LAYOUTS: tuple[Layout, ...] = ("unified", "streams")


def add(simulation: Simulation, seed: int, **changes: Any) -> Sequence:
    """A sequence of 100 prompt tokens and 12 of answer, with some attributes changed before it is queued."""
    number = len(simulation.stories) + 1
    return simulation.add(words(seed, 100), 12, **{"scope": f"{number}" if changes else "", **changes})


def test_a_group_goes_on_for_its_turn_and_then_the_next_one() -> None:
    turns = Turns(turn_us=100)
    order = []
    for _ in range(9):
        order.append(turns.next(["a", "b", "c"]))
        turns.spent(50)
    assert order == ["a", "a", "b", "b", "c", "c", "a", "a", "b"]


def test_a_group_that_is_alone_goes_on() -> None:
    turns = Turns(turn_us=100)
    for _ in range(5):
        assert turns.next(["a"]) == "a"
        turns.spent(1000)
    assert turns.next(["a", "b"]) == "b"


def test_a_group_that_is_gone_gives_its_turn_to_the_oldest() -> None:
    turns = Turns(turn_us=100)
    assert turns.next(["b"]) == "b"
    assert turns.next(["a", "c"]) == "a"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_groups_never_share_a_step_and_none_starves(layout: Layout) -> None:
    simulation = Simulation(num_slots=6, num_cells=6 * 256, layout=layout, cost_us=lambda _batch: 30_000)
    groups = {add(simulation, n, group="xyz"[n % 3], scope="xyz"[n % 3]).id: "xyz"[n % 3] for n in range(6)}
    last_step = dict.fromkeys("xyz", 0)
    while simulation.busy:
        batch = simulation.step()
        (group,) = {groups[chunk.sequence_id] for chunk in batch.chunks}
        last_step[group] = simulation.num_steps
        unfinished = {groups[story.sequence.id] for story in simulation.unfinished}
        assert all(simulation.num_steps - last_step[each] <= 3 * 4 for each in unfinished)
    alone = Simulation()
    for number, story in simulation.stories.items():
        sequence = alone.add(words(number - 1, 100), 12)
        alone.run()
        assert alone.tokens_of(sequence) == story.tokens


@pytest.mark.parametrize("layout", LAYOUTS)
def test_who_is_computed_alone_has_the_same_steps_whatever_else_runs(layout: Layout) -> None:
    def shapes(num_others: int) -> list[tuple[int, int]]:
        simulation = Simulation(num_slots=4, num_cells=4 * 256, layout=layout, cost_us=lambda _batch: 30_000)
        for n in range(num_others):
            add(simulation, n)
        # Another has computed the same prompt, and still it is not reused.
        simulation.add(words(9, 100), 12)
        simulation.step()
        alone = add(simulation, 9, alone=True, group="alone")
        seen: list[tuple[int, int]] = []
        while simulation.busy:
            batch = simulation.step()
            if any(chunk.sequence_id == alone.id for chunk in batch.chunks):
                (chunk,) = batch.chunks
                seen.append((chunk.start, len(chunk.tokens)))
        assert alone.num_cached == 0
        return seen

    assert shapes(0) == shapes(2) == [(0, ALONE_CHUNK), (ALONE_CHUNK, 36), *((100 + n, 1) for n in range(11))]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_computed_alone_leaves_nothing_behind(layout: Layout) -> None:
    simulation = Simulation(layout=layout, host_tokens=1000)
    add(simulation, 1, alone=True, group="alone")
    simulation.run()
    again = add(simulation, 1)
    simulation.run()
    assert again.num_cached == 0


def test_a_scored_prompt_has_every_token_once() -> None:
    simulation = Simulation(num_batch=256)
    sequence = add(simulation, 1, scored=True)
    add(simulation, 2)
    simulation.run()
    scores = simulation.runner.scores(sequence.id)
    assert [score.token for score in scores] == words(1, 100)[1:]
