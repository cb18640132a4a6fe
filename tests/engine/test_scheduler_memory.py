"""The scheduler when cells run out, and how it keeps the slots of streams together."""

from __future__ import annotations

import random

import pytest

from localllm.engine.batch import Copy
from localllm.engine.sequence import SequenceStatus
from tests.fakes import Simulation, words

# --- cells run out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host_tokens", [0, 10_000])
def test_the_youngest_waits_when_cells_run_out_and_loses_nothing(host_tokens: int) -> None:
    simulation = Simulation(num_slots=4, num_cells=400, num_batch=128, host_tokens=host_tokens, num_ctx=300)
    sequences = [simulation.add(words(number, 60), max_tokens=150) for number in range(4)]
    simulation.run()
    preempted = [sequence.num_preemptions for sequence in sequences]
    assert preempted[0] == 0
    assert sum(preempted) > 0
    ends = [simulation.stories[sequence.id].last_step or 0 for sequence in sequences]
    assert ends == sorted(ends)
    for sequence in sequences:
        single = Simulation(num_slots=1, num_cells=300)
        alone = single.add(sequence.tokens[:60], max_tokens=150)
        single.run()
        assert simulation.tokens_of(sequence) == single.tokens_of(alone)
        assert sequence.num_cached == 0  # what it computed itself before it had to wait is not what others had


@pytest.mark.parametrize("num_cells", [250, 251, 252])
def test_the_youngest_is_who_came_last_not_who_was_let_in_last(num_cells: int) -> None:
    simulation = Simulation(num_slots=3, num_cells=num_cells, num_batch=64)
    system = words(1, 100)
    simulation.add([*system, 1], max_tokens=60)
    second = simulation.add([*system, 2], max_tokens=60)  # waits for the first one's prefix
    third = simulation.add(words(3, 10), max_tokens=60)
    simulation.step()
    assert (second.status, third.status) == (SequenceStatus.WAITING, SequenceStatus.DECODE)
    simulation.run()
    assert second.num_preemptions == 0
    assert third.num_preemptions > 0


def test_with_host_memory_a_preempted_sequence_computes_nothing_twice() -> None:
    simulation = Simulation(num_slots=4, num_cells=400, num_batch=128, host_tokens=10_000, num_ctx=300)
    sequences = [simulation.add(words(number, 60), max_tokens=150) for number in range(4)]
    simulation.run()
    assert sum(sequence.num_preemptions for sequence in sequences) > 0
    assert simulation.runner.num_computed == 4 * (60 + 149)


def test_idle_prefixes_go_before_anyone_has_to_wait() -> None:
    simulation = Simulation(num_slots=4, num_cells=400, num_batch=128)
    simulation.add(words(1, 150), max_tokens=1)
    simulation.add(words(2, 150), max_tokens=1)
    simulation.run()
    sequence = simulation.add(words(3, 90), max_tokens=200)
    simulation.run()
    assert sequence.num_preemptions == 0


def test_who_waits_for_cells_is_not_overtaken_by_smaller_ones() -> None:
    simulation = Simulation(num_slots=4, num_cells=400, num_batch=128)
    simulation.add(words(1, 100), max_tokens=100)
    big = simulation.add(words(2, 300), max_tokens=1)
    small = simulation.add(words(3, 10), max_tokens=1)
    while big.slot is None:
        assert small.status is SequenceStatus.WAITING
        simulation.step()
    simulation.run()


def test_those_who_wait_for_a_prefix_keep_their_order() -> None:
    simulation = Simulation(num_slots=2, num_cells=4000, num_batch=64)
    system = words(1, 200)
    sequences = [simulation.add([*system, number], max_tokens=3) for number in range(6)]
    simulation.run()
    starts = [simulation.stories[sequence.id].first_step or 0 for sequence in sequences]
    assert starts == sorted(starts)


@pytest.mark.parametrize("host_tokens", [0, 10_000])
@pytest.mark.parametrize("num_hidden", [1, 40, 150])
def test_fewer_cells_than_the_account_says(host_tokens: int, num_hidden: int) -> None:
    simulation = Simulation(
        num_slots=4, num_cells=400, num_batch=128, host_tokens=host_tokens, num_hidden=num_hidden, num_ctx=220
    )
    sequences = [simulation.add(words(number, 60), max_tokens=150) for number in range(4)]
    simulation.run()
    assert simulation.num_no_space > 0
    assert [len(simulation.tokens_of(sequence)) for sequence in sequences] == [150] * 4
    # After a failure nobody is let in until somebody ends: the same step is not tried over and over.
    assert simulation.num_no_space <= 4 * len(sequences)


def test_a_sequence_that_does_not_fit_even_alone_is_handed_back() -> None:
    simulation = Simulation(num_slots=2, num_cells=200, num_batch=128, num_hidden=100)
    sequence = simulation.add(words(1, 90), max_tokens=50)
    simulation.run(max_steps=100)
    assert simulation.unfit == [sequence]
    assert len(simulation.tokens_of(sequence)) == 11


def test_an_idle_prefix_gives_way_when_cells_are_missing() -> None:
    simulation = Simulation(num_slots=2, num_cells=200, num_batch=128, num_hidden=90)
    simulation.add(words(1, 60), max_tokens=1)
    simulation.run()
    second = simulation.add(words(2, 60), max_tokens=20)
    simulation.run()
    assert simulation.num_no_space == 1
    assert (second.num_preemptions, len(simulation.tokens_of(second))) == (0, 20)


# --- a stream for each slot ------------------------------------------------------------------------------------------


def test_busy_slots_stay_neighbours() -> None:
    rng = random.Random(3)
    simulation = Simulation(num_slots=16, num_cells=16 * 400, layout="streams", num_batch=64)
    for number in range(60):
        simulation.add(words(number, rng.randint(1, 60)), max_tokens=rng.randint(1, 80))
    num_apart = 0
    while simulation.busy:
        slots = [chunk.slot for chunk in simulation.step().chunks]
        num_apart = num_apart + 1 if slots and max(slots) - min(slots) >= len(slots) else 0
        # Gaps close one a step, and those in prefill may have no share of a step.
        assert num_apart <= 16
    simulation.run()


def test_neighbours_are_not_moved_for_the_sake_of_slot_zero() -> None:
    simulation = Simulation(num_slots=4, num_cells=4 * 400, layout="streams", num_batch=64)
    first = simulation.add(words(1, 50))
    for number in (2, 3):
        simulation.add(words(number, 50), max_tokens=40)
    simulation.step()
    simulation.abort(first)
    while simulation.busy:
        assert not any(isinstance(op, Copy) for op in simulation.step().ops)
