from __future__ import annotations

import random

import pytest

from localllm.engine.batch import Batch, Copy, Sampled
from localllm.engine.kv_cache import KVCache, Layout
from localllm.engine.scheduler import Scheduler
from localllm.engine.sequence import Sequence, SequenceStatus
from localllm.engine.step_cost import StepCost
from tests.fakes import NUM_VOCAB, Simulation

LAYOUTS: tuple[Layout, ...] = ("unified", "streams")
TARGET_US = 150_000


def words(seed: int, count: int) -> list[int]:
    """`count` random tokens; another seed gives others."""
    rng = random.Random(seed)
    return [rng.randrange(NUM_VOCAB) for _ in range(count)]


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
@pytest.mark.parametrize("can_trim", [True, False])
def test_ten_conversations_on_four_slots_compute_new_turns_only(layout: Layout, can_trim: bool) -> None:
    simulation = Simulation(
        num_slots=4, num_cells=4 * 2048, layout=layout, num_batch=512, host_tokens=40_000, can_trim=can_trim
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
        simulation.scheduler.update(batch, [Sampled(1, False)], 1000)


def test_max_tokens_of_nothing_is_refused() -> None:
    simulation = Simulation()
    with pytest.raises(AssertionError):
        simulation.scheduler.add(Sequence(1, [1, 2], 0, order=1))


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
