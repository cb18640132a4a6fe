from __future__ import annotations

import pytest

from localllm.engine.batch import Batch, Op, Sampled
from localllm.engine.checkpoints import StateKind
from localllm.engine.kv_cache import Coming, KVCache, Layout, Placement
from localllm.engine.saved_prefixes import Arriving
from localllm.engine.scheduler import Scheduler
from localllm.engine.sequence import Sequence, SequenceStatus
from localllm.engine.step_cost import StepCost
from tests.fakes import Simulation, words

LAYOUTS: tuple[Layout, ...] = ("unified", "streams")
TARGET_US = 150_000


def cpu_cost_us(batch: Batch) -> int:
    """About what a small model costs on two cores: dearer the deeper the context."""
    num_tokens = sum(len(chunk.tokens) for chunk in batch.chunks)
    depths = sum(len(chunk.tokens) * chunk.start for chunk in batch.chunks)
    return 3_000 + 2_000 * num_tokens + 17 * depths // 10


def num_prompt_tokens(batch: Batch) -> int:
    return sum(len(chunk.tokens) for chunk in batch.chunks if len(chunk.tokens) > 1 or not chunk.samples)


# --- one sequence --------------------------------------------------------------------------------------------------


def test_nothing_to_do_is_an_empty_batch() -> None:
    assert not Simulation().step()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_sequence_is_computed_in_chunks_and_then_token_by_token(layout: Layout) -> None:
    simulation = Simulation(layout=layout, num_batch=64)
    sequence = simulation.add(words(1, 150), max_tokens=3)
    shapes = [[len(chunk.tokens) for chunk in simulation.step().chunks] for _ in range(5)]
    assert shapes == [[64], [64], [22], [1], [1]]
    assert simulation.stories[sequence.id].finish == "length"
    assert len(simulation.tokens_of(sequence)) == 3


def test_the_answer_ends_where_the_context_does() -> None:
    simulation = Simulation(num_ctx=100)
    sequence = simulation.add(words(1, 99))
    other = simulation.add(words(2, 90))
    simulation.run()
    assert [len(simulation.tokens_of(each)) for each in (sequence, other)] == [1, 10]
    assert {story.finish for story in simulation.stories.values()} == {"length"}


@pytest.mark.parametrize("length", [0, 100])
def test_a_prompt_that_leaves_no_room_is_refused(length: int) -> None:
    with pytest.raises(AssertionError):
        Simulation(num_ctx=100).add(words(1, length))


def test_a_step_has_room_for_every_slot() -> None:
    with pytest.raises(AssertionError):
        Scheduler(KVCache(8, 800, "streams"), StepCost(4, TARGET_US), num_ctx=100, num_batch=4)


def test_a_prompt_of_one_token() -> None:
    simulation = Simulation()
    sequence = simulation.add([5], max_tokens=2)
    simulation.run()
    assert len(simulation.tokens_of(sequence)) == 2


# --- shared prefixes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("host_tokens", [0, 10_000])
def test_a_prefix_that_arrives_eight_times_at_once_is_computed_once(layout: Layout, host_tokens: int) -> None:
    simulation = Simulation(num_slots=8, num_cells=8 * 1024, layout=layout, num_batch=512, host_tokens=host_tokens)
    system = words(1, 700)
    sequences = [simulation.add([*system, number, *words(number, 9)], max_tokens=1) for number in range(8)]
    simulation.run()
    num_suffix = 10
    assert simulation.runner.num_computed == 700 + 8 * num_suffix
    assert [sequence.num_cached for sequence in sequences] == [0] + [700] * 7
    # All of them had their first token one step after the prefix was there.
    assert max(story.first_step or 0 for story in simulation.stories.values()) <= 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_those_who_share_a_prefix_have_their_first_token_in_one_step(layout: Layout) -> None:
    """The first stops at the fork, so that the others' rests are not spread over steps made short by its decoding."""
    simulation = Simulation(num_slots=8, num_cells=8 * 512, layout=layout, num_batch=512, cost_us=cpu_cost_us)
    prefix = words(1, 300)
    sequences = [simulation.add(prefix + words(10 + n, 20), max_tokens=5) for n in range(8)]
    simulation.run()
    assert {simulation.stories[sequence.id].first_step for sequence in sequences} == {2}


def test_sharing_in_the_unified_pool_takes_no_cells_and_moves_nothing() -> None:
    simulation = Simulation(num_slots=8, num_cells=1100, num_ctx=1024, num_batch=1024)
    system = words(1, 700)
    for number in range(8):
        simulation.add([*system, number, *words(number, 9)], max_tokens=10)
    simulation.run()
    assert simulation.runner.num_moved == 0
    assert all(story.sequence.num_preemptions == 0 for story in simulation.stories.values())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_identical_prompts_compute_one_token_each_beside_the_first(layout: Layout) -> None:
    simulation = Simulation(num_slots=4, num_cells=4096, layout=layout, num_batch=512)
    prompt = words(1, 300)
    for _ in range(4):
        simulation.add(prompt, max_tokens=1)
    simulation.run()
    assert simulation.runner.num_computed == 300 + 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_who_waits_for_a_prefix_lets_others_pass(layout: Layout) -> None:
    simulation = Simulation(num_slots=4, num_cells=4096, layout=layout, num_batch=64)
    system = words(1, 500)
    simulation.add([*system, 1, 2], max_tokens=5)
    waits = simulation.add([*system, 2, 3], max_tokens=5)
    passes = simulation.add([60, 59, 58], max_tokens=5)
    simulation.step()
    assert waits.status is SequenceStatus.WAITING
    assert passes.status is SequenceStatus.DECODE
    simulation.run()


def test_who_waits_for_a_short_prefix_does_not_wait_for_a_long_prompt() -> None:
    simulation = Simulation(num_slots=4, num_cells=8_000, num_batch=64)
    system = words(1, 100)
    simulation.add([*system, 1, *words(2, 3_000)], max_tokens=1)
    short = simulation.add([*system, 2], max_tokens=1)
    for _ in range(3):
        simulation.step()
    assert short.status is SequenceStatus.FINISHED
    assert short.num_cached == 100


def test_who_waits_for_a_prefix_is_not_searched_for_in_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a thousand of them, searching took 30 ms a step."""
    simulation = Simulation(num_slots=32, num_cells=64_000, num_batch=64)
    system = words(1, 1_000)
    for number in range(30):
        simulation.add([*system, number], max_tokens=1)
    simulation.step()
    searched: list[list[int]] = []
    place = simulation.cache.place

    def counted(tokens: list[int], ops: list[Op], scope: str = "", **how: bool) -> Placement | Coming | Arriving | None:
        searched.append(tokens)
        return place(tokens, ops, scope, **how)

    monkeypatch.setattr(simulation.cache, "place", counted)
    for _ in range(10):
        simulation.step()
    assert not searched
    simulation.run()
    assert len(searched) == 29


@pytest.mark.parametrize("layout", LAYOUTS)
def test_who_waits_for_a_prefix_goes_on_when_the_one_it_waits_for_is_aborted(layout: Layout) -> None:
    simulation = Simulation(num_slots=4, num_cells=4096, layout=layout, num_batch=64)
    system = words(1, 500)
    first = simulation.add([*system, 1], max_tokens=5)
    second = simulation.add([*system, 2], max_tokens=5)
    simulation.step()
    simulation.step()
    simulation.abort(first)
    simulation.step()
    assert second.status is SequenceStatus.PREFILL
    assert second.num_cached == 128
    simulation.run()
    assert simulation.runner.num_computed <= 501 + 4


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["plain", "window", "hybrid", "recurrent"])
def test_ten_conversations_on_four_slots_compute_new_turns_only(layout: Layout, kind: StateKind) -> None:
    simulation = Simulation(
        num_slots=4, num_cells=4 * 2048, layout=layout, num_batch=512, host_tokens=40_000, kind=kind
    )
    histories = [words(number, 100) for number in range(10)]
    for turn in range(5):
        before = simulation.runner.num_computed
        num_new = 0
        sequences = []
        for history in histories:
            sequences.append(simulation.add(history, max_tokens=20))
        simulation.run()
        for number, sequence in enumerate(sequences):
            # Of the last answer all but the last token was computed; the rest of a turn's prompt is the new question.
            num_new += (100 if turn == 0 else 31) + 19
            histories[number] = sequence.tokens + words(100 * turn + number, 30)
        assert simulation.runner.num_computed - before == num_new


def test_a_regenerated_answer_computes_one_token() -> None:
    simulation = Simulation(num_slots=2, layout="streams", num_cells=2048, num_batch=512)
    prompt = words(1, 400)
    first = simulation.add(prompt, max_tokens=30)
    simulation.run()
    before = simulation.runner.num_computed
    again = simulation.add(prompt, max_tokens=30)
    simulation.run()
    assert simulation.tokens_of(again) == simulation.tokens_of(first)
    assert again.num_cached == 399
    assert simulation.runner.num_computed - before == 30


# --- time: decode goes on, prompts follow the cost ------------------------------------------------------------------


def test_a_long_prompt_amid_streams_stalls_none_of_them() -> None:
    simulation = Simulation(num_slots=4, num_cells=16_000, num_batch=512, target_us=TARGET_US, cost_us=cpu_cost_us)
    streams = [simulation.add(words(number, 60)) for number in range(3)]
    while not all(stream.num_output > 20 for stream in streams):
        simulation.step()
    late = simulation.add(words(9, 2_500), max_tokens=5)
    costs: list[int] = []
    while late.num_output == 0:
        batch = simulation.step()
        decoded = {chunk.sequence_id for chunk in batch.chunks if len(chunk.tokens) == 1}
        assert {stream.id for stream in streams} <= decoded
        costs.append(cpu_cost_us(batch))
    # The very first chunk is a guess; from then on every step keeps close to the target and makes use of it.
    assert max(costs[1:]) <= 1.5 * TARGET_US
    assert max(costs) < 2 * TARGET_US
    assert min(costs[3:-1]) >= 0.5 * TARGET_US
    total = 2_000 * 2_500 + 17 * 2_500 * 2_500 // 20
    assert len(costs) <= 1.5 * total / TARGET_US


def test_a_long_prompt_alone_takes_whole_batches() -> None:
    simulation = Simulation(num_cells=16_000, num_batch=512, cost_us=cpu_cost_us)
    simulation.add(words(9, 2_500), max_tokens=1)
    assert [num_prompt_tokens(simulation.step()) for _ in range(5)] == [512, 512, 512, 512, 452]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_long_prompt_in_a_stream_of_short_ones_does_not_starve(layout: Layout) -> None:
    simulation = Simulation(num_slots=8, num_cells=8 * 4096, layout=layout, num_batch=64, cost_us=cpu_cost_us)
    for number in range(8):
        simulation.add(words(number, 40), max_tokens=2)
    long = simulation.add(words(99, 2_000), max_tokens=1)
    # More short prompts than a step can hold: without a share of its own the long one would get what is left, nothing.
    for number in range(1_000):
        for more in range(3):
            simulation.add(words(1_000 + 3 * number + more, 40), max_tokens=2)
        simulation.step()
        if long.status is SequenceStatus.FINISHED:
            break
    assert simulation.stories[long.id].last_step is not None
    assert simulation.num_steps <= 2_000 / 16 + 40


@pytest.mark.parametrize("layout", LAYOUTS)
def test_short_prompts_overtake_a_long_one(layout: Layout) -> None:
    simulation = Simulation(num_slots=4, num_cells=4 * 4096, layout=layout, num_batch=128)
    long = simulation.add(words(1, 3_000), max_tokens=1)
    simulation.step()
    short = simulation.add(words(2, 50), max_tokens=1)
    simulation.step()
    assert short.status is SequenceStatus.FINISHED
    assert long.status is SequenceStatus.PREFILL


def test_no_step_is_longer_than_the_batch() -> None:
    simulation = Simulation(num_slots=16, num_cells=16 * 256, layout="streams", num_batch=16)
    for number in range(40):
        simulation.add(words(number, 30 + number), max_tokens=20)
    simulation.run()  # the runner checks every batch
    assert not simulation.unfinished


# --- finish --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_finish_while_waiting_in_prefill_decoding_and_after(layout: Layout) -> None:
    simulation = Simulation(num_slots=2, num_cells=2048, layout=layout, num_batch=64)
    decoding = simulation.add(words(1, 20))
    prefill = simulation.add(words(2, 500))
    waiting = simulation.add(words(3, 20))
    simulation.step()
    assert [each.status for each in (decoding, prefill, waiting)] == [
        SequenceStatus.DECODE,
        SequenceStatus.PREFILL,
        SequenceStatus.WAITING,
    ]
    for sequence in (waiting, prefill, decoding):
        simulation.abort(sequence)
        assert sequence.status is SequenceStatus.FINISHED
        assert sequence.slot is None
        simulation.abort(sequence)  # again: nothing happens
    assert (simulation.scheduler.num_running, simulation.scheduler.num_waiting) == (0, 0)
    assert not simulation.step().chunks


def test_what_an_aborted_prefill_computed_serves_the_next() -> None:
    simulation = Simulation(num_slots=2, num_cells=2048, layout="streams", num_batch=64)
    prompt = words(2, 500)
    first = simulation.add(prompt)
    simulation.step()
    simulation.step()
    simulation.abort(first)
    again = simulation.add(prompt, max_tokens=1)
    simulation.run()
    assert again.num_cached == 128


def test_update_does_not_forgive_a_sequence_that_ended_under_way() -> None:
    """Its slot would hold tokens that the account does not know of."""
    simulation = Simulation()
    sequence = simulation.add(words(1, 10))
    batch = simulation.scheduler.schedule()
    simulation.scheduler.finish(sequence)
    with pytest.raises(KeyError):
        simulation.scheduler.update(batch, [Sampled((1,))], 1000)


def test_max_tokens_of_nothing_is_refused() -> None:
    simulation = Simulation()
    with pytest.raises(AssertionError):
        simulation.scheduler.add(Sequence(1, [1, 2], 0, order=1))
