"""Engine: one thread, an inbox and the step loop. Owns the life of every request in the child.

Each request ends in exactly one Finished, or in one error when the engine itself fails.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from localllm.api import (
    ChoiceFinished,
    Control,
    Event,
    Finished,
    FinishReason,
    Queued,
    SamplingParams,
    Timings,
    Usage,
)
from localllm.engine.answer import Answer, Pieces
from localllm.engine.batch import Batch
from localllm.engine.job import Job
from localllm.engine.runner import NoSpaceError, Runner
from localllm.engine.scheduler import Output, Scheduler
from localllm.engine.sequence import Sequence, SequenceStatus
from localllm.errors import QueueFullError

Events = list[tuple[int, list[Event]]]

# A request that waits is told its place after this long, and again when it changed, as often at most.
TELL_PLACE_S = 0.25


@dataclass(slots=True)
class _Request:
    """What the engine remembers of a job."""

    job: Job
    submitted: float
    answers: list[Answer] = field(default_factory=list)
    started: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0
    stop_thinking: bool = False
    place_told: tuple[float, int] = (0.0, -1)
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Submit:
    job: Job
    at: float


@dataclass(frozen=True, slots=True)
class _Steer:
    request_id: int
    control: Control


@dataclass(frozen=True, slots=True)
class _Stop:
    """Leave the loop."""


class Engine:
    """Runs jobs on a Runner as the Scheduler decides. `emit` gets what each step brought; it must not block long.

    `max_requests` bounds those running and waiting together.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        pieces: Pieces,
        emit: Callable[[Events], None],
        *,
        max_requests: int = 1024,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._pieces = pieces
        self._emit = emit
        self._clock = clock
        self._max_requests = max_requests
        self._inbox: queue.SimpleQueue[_Submit | _Steer | _Stop] = queue.SimpleQueue()
        self._requests: dict[int, _Request] = {}
        self._owners: dict[int, tuple[_Request, Answer]] = {}
        self._num_sequences = 0
        self._request_s = 0.0
        self.step_began = 0.0

    # --- called from other threads --------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queue a request. Its prompt must leave room for one token in the context. Raises QueueFullError."""
        num_requests = len(self._requests) + self._inbox.qsize()
        if num_requests >= self._max_requests:
            retry_s = max(1.0, self._eta_s(self._scheduler.num_waiting) or 0.0)
            raise QueueFullError(
                f"{num_requests} requests are under way",
                hint=f"try again in {retry_s:.0f} s",
                retry_after_s=retry_s,
            )
        self._inbox.put(_Submit(job, self._clock()))

    def abort(self, request_id: int) -> None:
        """End a request between two steps; unknown ids are ignored."""
        self.steer(request_id, "stop")

    def steer(self, request_id: int, control: Control) -> None:
        """Change a request's course between two steps; unknown ids are ignored."""
        self._inbox.put(_Steer(request_id, control))

    def stop(self) -> None:
        """Leave the loop; running requests end as aborted."""
        self._inbox.put(_Stop())

    @property
    def counts(self) -> tuple[int, int]:
        """Running and waiting sequences."""
        return self._scheduler.num_running, self._scheduler.num_waiting

    # --- the engine's thread --------------------------------------------------------------------------------------

    def loop(self) -> None:
        """Run until `stop`. Raises EngineError when llama.cpp fails: every request of this engine is lost then."""
        while self._drain():
            self._expire()
            batch = self._scheduler.schedule()
            if not batch:
                continue
            began = self.step_began = self._clock()
            try:
                sampled = self._runner.run(batch)
            except NoSpaceError:
                unfit = self._scheduler.no_space()
                if unfit is not None:
                    # Alone, and still no cells: what it has is all it can have.
                    self._end_answer(*self._owners[unfit.id], "length")
                continue
            ended = self._clock()
            self._mark_started(batch, began)
            for output in self._scheduler.update(batch, sampled, int((ended - began) * 1e6)):
                self._take(output, ended)
            self.step_began = 0.0
            self._tell_places(ended)
            self._flush()
        for request in list(self._requests.values()):
            self._end(request, "abort")
        self._flush()

    def _drain(self) -> bool:
        """Take in what arrived; wait for it when there is nothing to do. False: stop."""
        idle = not self._requests
        if idle:
            self.step_began = 0.0
        while True:
            try:
                message = self._inbox.get(block=idle)
            except queue.Empty:
                break
            idle = False
            match message:
                case _Stop():
                    return False
                case _Submit(job, at):
                    self._start(job, at)
                case _Steer(request_id, control):
                    if (request := self._requests.get(request_id)) is not None:
                        self._steer(request, control)
        self._flush()
        return True

    def _start(self, job: Job, submitted: float) -> None:
        request = self._requests[job.id] = _Request(job, submitted, events=list(job.notices))
        for index in range(job.n):
            self._num_sequences += 1
            sequence = Sequence(
                self._num_sequences,
                list(job.tokens),
                job.sampling.max_tokens,
                self._num_sequences,
                priority=job.priority,
                client=job.client,
            )
            answer = Answer(job, index, sequence, self._pieces)
            request.answers.append(answer)
            if job.sampling.max_tokens == 0:
                sequence.status = SequenceStatus.FINISHED
                answer.end("length")
                continue
            self._owners[sequence.id] = request, answer
            self._runner.open(sequence.id, _sampling(job, index), job.tokens)
            self._scheduler.add(sequence)
        if job.sampling.max_tokens == 0:
            self._finish(request)

    def _steer(self, request: _Request, control: Control) -> None:
        if control == "stop":
            self._end(request, "abort")
            return
        request.stop_thinking = True
        for answer in request.answers:
            self._end_reasoning(request, answer)

    def _expire(self) -> None:
        """End requests whose time is up."""
        now = self._clock()
        for request in list(self._requests.values()):
            deadline_s = request.job.deadline_s
            if deadline_s is not None and now - request.submitted >= deadline_s:
                self._end(request, "deadline")

    def _mark_started(self, batch: Batch, began: float) -> None:
        for chunk in batch.chunks:
            request, answer = self._owners[chunk.sequence_id]
            answer.num_drafted += chunk.num_drafts
            request.started = request.started or began

    def _take(self, output: Output, now: float) -> None:
        request, answer = self._owners[output.sequence.id]
        request.first_token = request.first_token or now
        request.last_token = now
        answer.take(output)
        if answer.stopped is not None:
            self._end_answer(request, answer, "stop")
        elif output.finish is not None:
            self._end_answer(request, answer, output.finish)
        elif request.job.end_runaway and answer.repeats_itself:
            self._end_answer(request, answer, "runaway")
        else:
            self._end_reasoning(request, answer)

    def _end_reasoning(self, request: _Request, answer: Answer) -> None:
        """Make a model that has thought enough answer: what ends its thinking is put where its next token would be."""
        closing = request.job.end_of_reasoning
        budget = request.job.reasoning_budget
        enough = request.stop_thinking or (budget is not None and answer.num_reasoning >= budget)
        if not (closing and enough and answer.in_reasoning):
            return
        if self._scheduler.force(answer.sequence, closing):
            self._runner.accept(answer.sequence.id, closing)
            answer.take_forced(closing)

    # --- the end --------------------------------------------------------------------------------------------------

    def _end(self, request: _Request, reason: FinishReason) -> None:
        """End all of a request's answers."""
        for answer in request.answers:
            if answer.reason is None:
                self._end_answer(request, answer, reason)

    def _end_answer(self, request: _Request, answer: Answer, reason: FinishReason) -> None:
        """End an answer and free its slot; with the last one, the request."""
        answer.end(reason)
        self._scheduler.finish(answer.sequence)
        self._runner.release(answer.sequence.id)
        del self._owners[answer.sequence.id]
        if request.job.n > 1:
            assert answer.reason is not None
            answer.events.append(ChoiceFinished(answer.index, answer.reason, answer.stopped))
        if all(each.reason is not None for each in request.answers):
            self._finish(request)

    def _finish(self, request: _Request) -> None:
        """Emit a request's last events."""
        del self._requests[request.job.id]
        now = self._clock()
        if request.started:
            spent = now - request.started
            self._request_s = spent if self._request_s == 0.0 else 0.8 * self._request_s + 0.2 * spent
        first = request.answers[0]
        assert first.reason is not None
        self._collect(request)
        request.events.append(Finished(first.reason, _usage(request), _timings(request, now), first.stopped))
        self._emit([(request.job.id, request.events)])

    def _collect(self, request: _Request) -> None:
        for answer in request.answers:
            request.events.extend(answer.events)
            answer.events.clear()

    def _flush(self) -> None:
        """Emit what the step brought those that go on."""
        events: Events = []
        for request_id, request in self._requests.items():
            self._collect(request)
            if request.events:
                events.append((request_id, request.events))
                request.events = []
        if events:
            self._emit(events)

    # --- the queue ------------------------------------------------------------------------------------------------

    def _tell_places(self, now: float) -> None:
        """Tell requests that wait how many go before them."""
        if not self._scheduler.num_waiting:
            return
        for place, sequence in enumerate(self._scheduler.waiting):
            request, answer = self._owners[sequence.id]
            told_at, told = request.place_told
            waits_long = now - max(told_at, request.submitted) >= TELL_PLACE_S
            if answer.index == 0 and not request.started and place != told and waits_long:
                request.place_told = now, place
                request.events.append(Queued(place, self._eta_s(place)))

    def _eta_s(self, num_ahead: int) -> float | None:
        """Seconds until a sequence with so many ahead gets its slot, at the pace of late. None: nothing ended yet."""
        if self._request_s == 0.0:
            return None
        return (num_ahead + 1) * self._request_s / max(1, self._scheduler.num_running)

    def abandon(self) -> list[int]:
        """Forget all requests after a failure of the engine; return their ids, for the one error each gets."""
        ids = list(self._requests)
        self._requests.clear()
        while not self._inbox.empty():
            message = self._inbox.get()
            if isinstance(message, _Submit):
                ids.append(message.job.id)
        return ids


def _sampling(job: Job, index: int) -> SamplingParams:
    """The parameters of one answer: several answers of one seed differ, each in the same way every time."""
    seed = job.sampling.seed
    if index == 0 or seed is None:
        return job.sampling
    return msgspec.structs.replace(job.sampling, seed=(seed + index) % 2**32)


def _usage(request: _Request) -> Usage:
    first = request.answers[0].sequence

    def total(count: Callable[[Answer], int]) -> int:
        return sum(map(count, request.answers))

    return Usage(
        num_prompt_tokens=first.num_prompt,
        num_cached_tokens=first.num_cached,
        num_output_tokens=total(lambda answer: answer.sequence.num_output),
        num_reasoning_tokens=total(lambda answer: answer.num_reasoning),
        num_forced_tokens=total(lambda answer: answer.num_forced),
        num_drafted_tokens=total(lambda answer: answer.num_drafted),
        num_accepted_tokens=total(lambda answer: answer.num_accepted),
    )


def _timings(request: _Request, now: float) -> Timings:
    started = request.started or now
    first = request.first_token or now
    return Timings(
        queue_s=started - request.submitted,
        prompt_s=max(0.0, first - started) if request.started else 0.0,
        decode_s=request.last_token - first if request.first_token else 0.0,
    )
