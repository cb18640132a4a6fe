"""Whose texts go into which batch, over a context that only records: turns, bounds, parts, aborts, one answer each."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from localllm.engine import frames
from localllm.engine.pooled_work import MAX_SEQUENCES, MIN_BATCH, Part, PooledJob, PooledWork, Vector
from localllm.errors import EngineError, InvalidRequestError


class Recorder:
    """A context whose vector of a part is the mean of its tokens, and how many they are."""

    def __init__(self, budget: int = 100, *, takes_parts: bool = True) -> None:
        self.budget = budget
        self.takes_parts = takes_parts
        self.runs: list[list[Part]] = []
        self.held: dict[int, int] = {}
        self.clock = 0.0

    def run(self, parts: Sequence[Part]) -> list[Vector]:
        assert len({part.sequence for part in parts}) == len(parts) <= MAX_SEQUENCES
        for part in parts:
            assert part.start == self.held.get(part.sequence, 0)
            self.held[part.sequence] = part.start + len(part.tokens)
            self.clock += len(part.tokens) * 1e-3
        self.runs.append(list(parts))
        return [np.array([np.mean(part.tokens), len(part.tokens)], np.float32) for part in parts]

    def clear(self) -> None:
        self.held.clear()


class Bench:
    """PooledWork over a Recorder, and the answers it sent."""

    def __init__(self, context: Recorder, target_us: int = 50_000) -> None:
        self.context = context
        self.sent: list[frames.Answer] = []
        self.vectors: dict[int, list[Vector]] = {}
        self.work = PooledWork(
            lambda _pooling, _longest: context, self.sent.append, target_us=target_us, clock=lambda: context.clock
        )

    def add(self, job_id: int, sizes: Sequence[int], pooling: frames.Pooling = "mean") -> list[list[int]]:
        inputs = [[job_id * 1000 + index] * size for index, size in enumerate(sizes)]

        def finish(vectors: list[Vector]) -> frames.Answer:
            self.vectors[job_id] = vectors
            return frames.Reply(job_id, "")

        self.work.add(PooledJob(job_id, pooling, inputs, finish))
        return inputs

    def run(self, *, alone: bool = True) -> None:
        while self.work:
            self.work.step(alone=alone)

    @property
    def answered(self) -> list[int]:
        return [answer.id for answer in self.sent if isinstance(answer, frames.Reply)]


def test_every_text_gets_its_own_vector_in_order() -> None:
    rng = random.Random(1)
    bench = Bench(Recorder())
    inputs = {job: bench.add(job, [rng.randint(1, 250) for _ in range(rng.randint(1, 40))]) for job in range(8)}
    bench.run()
    assert sorted(bench.answered) == list(range(8))
    for job, texts in inputs.items():
        assert [vector[0] for vector in bench.vectors[job]] == pytest.approx([text[0] for text in texts])


def test_batches_keep_to_the_budget_and_to_the_sequences() -> None:
    bench = Bench(Recorder(budget=100))
    bench.add(1, [30] * 20)
    bench.add(2, [1] * 300)
    bench.run()
    for parts in bench.context.runs:
        assert sum(len(part.tokens) for part in parts) <= 100
    assert max(map(len, bench.context.runs)) == MAX_SEQUENCES


def test_a_small_job_does_not_wait_for_a_large_one() -> None:
    bench = Bench(Recorder(budget=100))
    bench.add(1, [20] * 1000)
    bench.add(2, [20])
    bench.work.step(alone=True)
    assert bench.answered == [2]


def test_jobs_of_different_pooling_take_turns() -> None:
    bench = Bench(Recorder(budget=100))
    bench.add(1, [50] * 100, "mean")
    bench.add(2, [50] * 4, "last")
    for _ in range(4):
        bench.work.step(alone=True)
    assert bench.answered == [2]


def test_a_long_text_comes_in_parts_and_its_mean_is_that_of_all_tokens() -> None:
    bench = Bench(Recorder(budget=100))
    (tokens,) = bench.add(1, [250])
    tokens[:] = range(250)
    bench.add(2, [5])
    bench.run()
    assert [[(part.start, len(part.tokens)) for part in parts] for parts in bench.context.runs[:3]] == [
        [(0, 100)],
        [(100, 100)],
        [(200, 50)],
    ]
    assert float(bench.vectors[1][0][0]) == pytest.approx(124.5)
    assert sorted(bench.answered) == [1, 2]
    assert bench.context.held == {}


@pytest.mark.parametrize("pooling", ["last", "rank", "yes_no"])
def test_what_pools_the_end_keeps_the_last_part(pooling: frames.Pooling) -> None:
    bench = Bench(Recorder(budget=100))
    bench.add(1, [230], pooling)
    bench.run()
    assert float(bench.vectors[1][0][1]) == 30


def test_a_model_that_takes_no_parts_gets_a_long_text_whole() -> None:
    bench = Bench(Recorder(budget=100, takes_parts=False))
    bench.add(1, [10, 400, 10])
    bench.run()
    assert sorted(len(part.tokens) for parts in bench.context.runs for part in parts) == [10, 10, 400]


def test_beside_generations_a_batch_takes_about_its_time() -> None:
    bench = Bench(Recorder(budget=1000), target_us=50_000)  # a token takes a millisecond
    bench.add(1, [10] * 300)
    bench.run(alone=False)
    sizes = [sum(len(part.tokens) for part in parts) for parts in bench.context.runs]
    assert sizes[0] <= MIN_BATCH
    assert max(sizes) == 50
    bench = Bench(Recorder(budget=1000), target_us=1)
    bench.add(1, [10] * 10)
    bench.run(alone=False)
    assert max(sum(len(part.tokens) for part in parts) for parts in bench.context.runs) <= MIN_BATCH


def test_an_aborted_job_gets_no_answer_and_leaves_nothing_behind() -> None:
    bench = Bench(Recorder(budget=100))
    bench.add(1, [350])
    bench.add(2, [10])
    bench.work.step(alone=True)
    assert bench.context.held
    bench.work.abort(1)
    bench.work.abort(99)
    assert bench.context.held == {}
    bench.run()
    assert bench.answered == [2]
    assert bench.work.ids == []


def test_a_job_that_ends_in_an_error_leaves_the_others_alone() -> None:
    bench = Bench(Recorder())

    def fail(_vectors: list[Vector]) -> frames.Answer:
        raise EngineError("no numbers")

    bench.work.add(PooledJob(1, "mean", [[1, 2]], fail))
    bench.add(2, [3])
    bench.run()
    assert [type(answer) for answer in bench.sent] == [frames.Failed, frames.Reply]


def test_what_is_forgotten_is_named() -> None:
    bench = Bench(Recorder())
    bench.add(1, [5])
    bench.add(2, [5])
    assert bench.work.forget() == [1, 2]
    assert not bench.work


def test_an_engine_without_text_refuses_generations() -> None:
    from localllm.api import SamplingParams
    from localllm.engine.job import Job
    from localllm.engine.pooled_engine import PooledEngine

    engine = PooledEngine(Bench(Recorder()).work)
    with pytest.raises(InvalidRequestError, match="no text"):
        engine.submit(Job(1, [1], SamplingParams()))
