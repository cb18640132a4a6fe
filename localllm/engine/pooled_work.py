"""PooledWork: texts on their way to vectors. Owns whose texts go into the next batch; computes nothing itself.

Every job has its turn in each batch, so that one with ten thousand texts holds nobody up. A text longer than a batch is
computed in parts where the model allows it. The engine does one batch between two steps of its generations.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from localllm.engine import frames
from localllm.engine.frames import Pooling
from localllm.errors import LocalLLMError

MIN_BATCH = 16
MAX_SEQUENCES = 64

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive tokens of one sequence, from position `start`."""

    tokens: Sequence[int]
    sequence: int = 0
    start: int = 0


@dataclass(eq=False, slots=True)
class PooledJob:
    """Texts as tokens, and what to make of their vectors. `finish` may raise a LocalLLMError: the job's answer then."""

    id: int
    pooling: Pooling
    inputs: list[list[int]]
    finish: Callable[[list[Vector]], frames.Answer]
    num_taken: int = 0
    num_done: int = 0
    longest: int = field(init=False)
    vectors: list[Vector | None] = field(init=False)

    def __post_init__(self) -> None:
        self.longest = max(map(len, self.inputs))
        self.vectors = [None] * len(self.inputs)


class Context(Protocol):
    """What `pooling.PooledContext` offers."""

    budget: int
    takes_parts: bool

    def run(self, parts: Sequence[Part]) -> list[Vector]:
        """Compute the parts; what each of them gives, in order."""
        ...

    def clear(self) -> None:
        """Forget all sequences."""
        ...


@dataclass(eq=False, slots=True)
class _Long:
    """A text that is computed in parts, so far `num_done` tokens of it."""

    job: PooledJob
    index: int
    num_done: int = 0
    vector: Vector | None = None


class PooledWork:
    """Jobs under way. One thread calls it.

    `context(pooling, longest)` gives what computes; `send` gets each job's one answer. While others generate, a batch
    takes about `target_us`.
    """

    def __init__(
        self,
        context: Callable[[Pooling, int], Context],
        send: Callable[[frames.Answer], None],
        *,
        target_us: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._context = context
        self._send = send
        self._target_us = target_us
        self._clock = clock
        self._jobs: collections.deque[PooledJob] = collections.deque()
        self._long: _Long | None = None
        self._token_us = 0.0

    def __bool__(self) -> bool:
        return bool(self._jobs)

    @property
    def ids(self) -> list[int]:
        """The jobs that wait for an answer."""
        return [job.id for job in self._jobs]

    def add(self, job: PooledJob) -> None:
        """Take a job in."""
        self._jobs.append(job)

    def abort(self, job_id: int) -> None:
        """Forget a job; it gets no answer. Unknown ids are ignored."""
        for job in self._jobs:
            if job.id == job_id:
                self._jobs.remove(job)
                if self._long is not None and self._long.job is job:
                    self._context(job.pooling, job.longest).clear()
                    self._long = None
                return

    def forget(self) -> list[int]:
        """Forget all jobs; their ids."""
        ids = self.ids
        self._jobs.clear()
        self._long = None
        return ids

    def step(self, *, alone: bool) -> None:
        """Compute one batch. `alone`: nobody generates, so that it may be as large as the context takes."""
        first = self._long.job if self._long is not None else self._jobs[0]
        context = self._context(first.pooling, first.longest)
        budget = self._budget(context, alone)
        began = self._clock()
        if self._long is not None:
            num_tokens = self._run_long(context, self._long, budget)
        else:
            num_tokens = self._run(context, first.pooling, budget)
        spent_us = (self._clock() - began) * 1e6 / num_tokens
        self._token_us = spent_us if not self._token_us else (self._token_us + spent_us) / 2
        self._jobs.rotate(-1)

    def _budget(self, context: Context, alone: bool) -> int:
        if alone:
            return context.budget
        fitting = int(self._target_us / self._token_us) if self._token_us else MIN_BATCH
        return max(MIN_BATCH, min(context.budget, fitting))

    def _run(self, context: Context, pooling: Pooling, budget: int) -> int:
        """Compute whole texts of all jobs of this pooling in turn, or begin a long one; the number of tokens."""
        taken = self._take(pooling, budget)
        job, index = taken[0]
        if len(job.inputs[index]) > budget and context.takes_parts:
            self._long = _Long(job, index)
            return self._run_long(context, self._long, budget)
        parts = [Part(job.inputs[index], number) for number, (job, index) in enumerate(taken)]
        vectors = context.run(parts)
        context.clear()
        for (job, index), vector in zip(taken, vectors, strict=True):
            self._book(job, index, vector)
        return sum(len(part.tokens) for part in parts)

    def _take(self, pooling: Pooling, budget: int) -> list[tuple[PooledJob, int]]:
        """The texts of the next batch; the first one also where it is longer than the budget."""
        taken: list[tuple[PooledJob, int]] = []
        num_tokens = 0
        turns = collections.deque(job for job in self._jobs if job.pooling == pooling)
        while turns and len(taken) < MAX_SEQUENCES:
            job = turns.popleft()
            size = len(job.inputs[job.num_taken])
            if taken and num_tokens + size > budget:
                break
            taken.append((job, job.num_taken))
            num_tokens += size
            job.num_taken += 1
            if job.num_taken < len(job.inputs):
                turns.append(job)
        return taken

    def _run_long(self, context: Context, long: _Long, budget: int) -> int:
        tokens = long.job.inputs[long.index][long.num_done : long.num_done + budget]
        (vector,) = context.run([Part(tokens, start=long.num_done)])
        long.vector = _joined(long.job.pooling, long.vector, long.num_done, vector, len(tokens))
        long.num_done += len(tokens)
        if long.num_done == len(long.job.inputs[long.index]):
            context.clear()
            self._long = None
            self._book(long.job, long.index, long.vector)
        return len(tokens)

    def _book(self, job: PooledJob, index: int, vector: Vector) -> None:
        job.vectors[index] = vector
        job.num_done += 1
        if job.num_done < len(job.inputs):
            return
        self._jobs.remove(job)
        try:
            answer = job.finish([vector for vector in job.vectors if vector is not None])
        except LocalLLMError as error:
            answer = frames.Failed(job.id, frames.pack_error(error))
        self._send(answer)


def _joined(pooling: Pooling, before: Vector | None, num_before: int, vector: Vector, num_tokens: int) -> Vector:
    """The vector of a text from that of its beginning and that of its next part."""
    if before is None or pooling != "mean":
        return vector
    total = num_before + num_tokens
    return (before * (num_before / total) + vector * (num_tokens / total)).astype(vector.dtype)
