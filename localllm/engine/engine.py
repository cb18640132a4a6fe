"""Engine: one thread, an inbox and the step loop. Owns the life of every request in the child.

Each request ends in exactly one Finished, or in one error when the engine itself fails.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

from localllm.api import (
    ChoiceFinished,
    Control,
    Event,
    Finished,
    FinishReason,
    PromptLogprobs,
    PromptUsage,
    Receipt,
)
from localllm.engine.answer import Answer, Pieces
from localllm.engine.batch import Batch, DiskNews, Fetched
from localllm.engine.inbox import Heard, Message, Pool, Steer, Stop, Submit
from localllm.engine.job import Job
from localllm.engine.places import Places
from localllm.engine.pooled_work import PooledJob, PooledWork
from localllm.engine.request import Request, sampling_of
from localllm.engine.runner import NoSpaceError, Runner
from localllm.engine.scheduler import Output, Scheduler
from localllm.engine.sequence import Sequence, SequenceStatus
from localllm.engine.speculate import Speculator
from localllm.errors import InvalidRequestError, LocalLLMError, QueueFullError

Events = list[tuple[int, list[Event]]]

# Prefixes are written when nothing came for so long, and for so long at the end.
SETTLE_S = 0.2
POLL_S = 0.01
CLOSING_S = 1.0


class Engine:
    """Runs jobs on a Runner as the Scheduler decides. `emit` gets what each step brought; it must not block long.

    `max_requests` bounds those running and waiting together. `receipt(job, outputs)` makes the receipts asked for.
    `pooled` takes its turn between two steps, `speculator` guesses ahead. `emit_error` gets the request that ended in
    an error.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        pieces: Pieces,
        emit: Callable[[Events], None],
        *,
        max_requests: int = 1024,
        receipt: Callable[[Job, list[list[int]]], Receipt] | None = None,
        pooled: PooledWork | None = None,
        speculator: Speculator | None = None,
        emit_error: Callable[[int, LocalLLMError], None] = lambda _request_id, _error: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._pieces = pieces
        self._emit = emit
        self._emit_error = emit_error
        self._clock = clock
        self._max_requests = max_requests
        self._receipt = receipt
        self._pooled = pooled
        self._speculator = speculator
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._requests: dict[int, Request] = {}
        self._owners: dict[int, tuple[Request, Answer]] = {}
        self._num_sequences = 0
        self._places = Places()
        self._waits = False  # for the disk: there are requests, and nothing to compute
        self._settled = False  # nothing is left to be written
        self.step_began = 0.0
        self.num_output_tokens = 0  # of all requests so far

    # --- called from other threads --------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queue a request. Its prompt must leave room for one token in the context. Raises QueueFullError."""
        num_requests = len(self._requests) + self._inbox.qsize()
        if num_requests >= self._max_requests:
            retry_s = max(1.0, self._places.eta_s(self._scheduler.num_waiting, self._scheduler.num_running) or 0.0)
            raise QueueFullError(
                f"{num_requests} requests are under way",
                hint=f"try again in {retry_s:.0f} s",
                retry_after_s=retry_s,
            )
        self._inbox.put(Submit(job, self._clock()))

    def abort(self, request_id: int) -> None:
        """End a request between two steps; unknown ids are ignored."""
        self.steer(request_id, "stop")

    def submit_pooled(self, job: PooledJob) -> None:
        """Queue texts to be embedded or ranked. `pooled` sends their one answer."""
        self._inbox.put(Pool(job))

    def steer(self, request_id: int, control: Control) -> None:
        """Change a request's course between two steps; unknown ids are ignored."""
        self._inbox.put(Steer(request_id, control))

    def hear(self, news: DiskNews, state: Any = None) -> None:
        """Take in what became of a prefix on disk, with its state where it was read."""
        self._inbox.put(Heard(news, state))

    def stop(self) -> None:
        """Leave the loop; running requests end as aborted, and prefixes go to disk for a moment."""
        self._inbox.put(Stop())

    @property
    def counts(self) -> tuple[int, int]:
        """Running and waiting sequences."""
        return self._scheduler.num_running, self._scheduler.num_waiting

    # --- the engine's thread --------------------------------------------------------------------------------------

    def loop(self) -> None:
        """Run until `stop`. Raises EngineError when llama.cpp fails: every request of this engine is lost then."""
        while self._drain():
            self._expire()
            if self._pooled:
                self.step_began = self._clock()
                self._pooled.step(alone=not self._requests)
                self.step_began = 0.0
            drafting_us = self._draft()
            batch = self._scheduler.schedule()
            self._waits = not batch
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
            step_us = int((ended - began) * 1e6)
            outputs = self._scheduler.update(batch, sampled, step_us)
            if self._speculator is not None:
                self._speculator.observe(batch, outputs, step_us, drafting_us)
            for output in outputs:
                self._take(output, ended)
            self.step_began = 0.0
            if self._scheduler.num_waiting:
                waiting = (self._owners[sequence.id] for sequence in self._scheduler.waiting)
                self._places.tell(ended, waiting, self._scheduler.num_running)
            self._flush()
        for request in list(self._requests.values()):
            self._end(request, "abort")
        self._flush()
        self._put_away()

    def _patience_s(self, idle: bool) -> float | None:
        """How long to wait for a message before something else is to be done. None: for ever."""
        if self._waits and not idle:
            return POLL_S
        return None if self._settled else SETTLE_S

    def _put_away(self) -> None:
        """Write prefixes that are not on disk yet, the last used first, for as long as nobody minds."""
        until = self._clock() + CLOSING_S
        while (left_s := until - self._clock()) > 0 and (self._scheduler.store_next() or self._scheduler.is_storing):
            if batch := self._scheduler.schedule():
                self._runner.run(batch)
            try:
                message = self._inbox.get(timeout=left_s)
            except queue.Empty:
                break
            if isinstance(message, Heard):
                self._hear(message)

    def _hear(self, heard: Heard) -> None:
        if heard.state is not None and isinstance(heard.news, Fetched):
            self._runner.keep(heard.news.key, heard.state)
        self._scheduler.hear(heard.news)

    def _drain(self) -> bool:
        """Take in what arrived; wait for it when there is nothing to do. False: stop."""
        idle = not self._requests and not self._pooled
        if idle:
            self.step_began = 0.0
        while True:
            try:
                message = self._inbox.get(idle or self._waits, self._patience_s(idle))
            except queue.Empty:
                if not idle or self._scheduler.store_next():
                    break
                self._settled = True
                continue
            idle = self._waits = self._settled = False
            match message:
                case Heard():
                    self._hear(message)
                case Stop():
                    return False
                case Submit(job, at):
                    self._start(job, at)
                case Pool(pooled):
                    assert self._pooled is not None
                    self._pooled.add(pooled)
                case Steer(request_id, control):
                    if self._pooled and control == "stop":
                        self._pooled.abort(request_id)
                    if (request := self._requests.get(request_id)) is not None:
                        self._steer(request, control)
        self._flush()
        return True

    def _start(self, job: Job, submitted: float) -> None:
        request = self._requests[job.id] = Request(job, submitted)
        fresh = job.deterministic or job.prompt_logprobs is not None
        for index in range(job.n):
            self._num_sequences += 1
            sequence = Sequence(
                self._num_sequences,
                list(job.tokens),
                job.sampling.max_tokens,
                self._num_sequences,
                priority=job.priority,
                client=job.client,
                # Nobody else may find what it computes in steps of its own.
                scope=f"request {self._num_sequences}" if fresh else job.adapters.key,
                group=f"request {self._num_sequences}" if job.deterministic else job.adapters.key,
                alone=job.deterministic,
                scored=job.prompt_logprobs is not None,
            )
            answer = Answer(job, index, sequence, self._pieces)
            request.answers.append(answer)
            if job.sampling.max_tokens == 0:
                sequence.status = SequenceStatus.FINISHED
                answer.end("length")
                continue
            self._owners[sequence.id] = request, answer
            self._runner.open(sequence.id, sampling_of(job, index), job.tokens, job.prompt_logprobs)
            self._runner.adapt(sequence.id, job.adapters)
            if job.grammar is not None:
                self._runner.bind(sequence.id, job.grammar)
            self._scheduler.add(sequence)
            if self._speculator is not None and job.speculate and not job.deterministic:
                self._speculator.open(sequence)
        if job.sampling.max_tokens == 0:
            self._finish(request)

    def _steer(self, request: Request, control: Control) -> None:
        if control == "stop":
            self._end(request, "abort")
            return
        if control == "first":
            for answer in request.answers:
                self._scheduler.promote(answer.sequence)
            return
        request.stop_thinking = True
        for answer in request.answers:
            self._end_reasoning(request, answer)

    def _expire(self) -> None:
        """End requests whose time is up."""
        now = self._clock()
        for request in [request for request in self._requests.values() if request.is_late(now)]:
            self._end(request, "deadline")

    def _draft(self) -> int:
        """Guess ahead where nothing but decoding is to be done; returns the microseconds that took."""
        if self._speculator is None:
            return 0
        began = self._clock()
        decoding = self._scheduler.decoding
        self._speculator.draft(decoding if len(decoding) == self._scheduler.num_running else [])
        return int((self._clock() - began) * 1e6)

    def _mark_started(self, batch: Batch, began: float) -> None:
        for chunk in batch.chunks:
            request, answer = self._owners[chunk.sequence_id]
            answer.num_drafted += chunk.num_drafts
            request.started = request.started or began

    def _take(self, output: Output, now: float) -> None:
        if output.sequence.id not in self._owners:
            return  # another answer of its request failed in this step
        request, answer = self._owners[output.sequence.id]
        if request.first_token == 0.0:
            request.first_token = now
            if request.job.prompt_usage:
                usage = request.usage
                request.events.append(PromptUsage(usage.num_prompt_tokens, usage.num_cached_tokens))
            if request.job.prompt_logprobs is not None:
                request.events.append(PromptLogprobs(self._runner.scores(answer.sequence.id)))
        request.last_token = now
        self.num_output_tokens += output.num_tokens
        if output.sampled.failure is not None:
            self._fail(request, output.sampled.failure)
            return
        answer.take(output)
        if answer.stopped is not None:
            self._end_answer(request, answer, "stop")
        elif output.finish is not None:
            self._end_answer(request, answer, output.finish)
        elif request.job.end_runaway and answer.repeats_itself:
            self._end_answer(request, answer, "runaway")
        else:
            self._end_reasoning(request, answer)

    def _end_reasoning(self, request: Request, answer: Answer) -> None:
        """Make a model that has thought enough answer: what ends its thinking is put where its next token would be."""
        closing = request.job.end_of_reasoning
        if request.wants_answer_of(answer) and self._scheduler.force(answer.sequence, closing):
            self._runner.accept(answer.sequence.id, closing)
            answer.take_forced(closing)

    # --- the end --------------------------------------------------------------------------------------------------

    def _end(self, request: Request, reason: FinishReason) -> None:
        """End all of a request's answers."""
        for answer in request.answers:
            if answer.reason is None:
                self._end_answer(request, answer, reason)

    def _end_answer(self, request: Request, answer: Answer, reason: FinishReason) -> None:
        """End an answer and free its slot; with the last one, the request."""
        answer.end(reason)
        self._free(answer)
        if request.job.n > 1:
            assert answer.reason is not None
            answer.events.append(ChoiceFinished(answer.index, answer.reason, answer.stopped))
        if request.has_ended:
            self._finish(request)

    def _free(self, answer: Answer) -> None:
        self._scheduler.finish(answer.sequence)
        self._runner.release(answer.sequence.id)
        del self._owners[answer.sequence.id]

    def _fail(self, request: Request, reason: str) -> None:
        """End a request in an error: what its answers are bound to cannot be followed any further."""
        self._flush()
        for answer in request.answers:
            if answer.reason is None:
                answer.reason = "stop"
                self._free(answer)
        del self._requests[request.job.id]
        hint = "make the constraint simpler: fewer choices that begin alike"
        error = InvalidRequestError(f"the constraint became too complex: {reason[:200]}", hint=hint, param="constraint")
        self._emit_error(request.job.id, error)

    def _finish(self, request: Request) -> None:
        """Emit a request's last events."""
        del self._requests[request.job.id]
        now = self._clock()
        if request.started:
            self._places.note(now - request.started)
        first = request.answers[0]
        assert first.reason is not None
        receipt = self._receipt_of(request) if request.job.receipt else None
        finished = Finished(first.reason, request.usage, request.timings(now), first.stopped, receipt)
        self._emit([(request.job.id, [*request.take_events(), finished])])

    def _receipt_of(self, request: Request) -> Receipt | None:
        if self._receipt is None:
            return None
        return self._receipt(request.job, [answer.sequence.output for answer in request.answers])

    def _flush(self) -> None:
        """Emit what the step brought those that go on."""
        events = [(request_id, new) for request_id, each in self._requests.items() if (new := each.take_events())]
        if events:
            self._emit(events)

    def abandon(self) -> list[int]:
        """Forget all requests after a failure of the engine; return their ids, for the one error each gets."""
        ids = list(self._requests)
        self._requests.clear()
        if self._pooled is not None:
            ids += self._pooled.forget()
        while not self._inbox.empty():
            message = self._inbox.get()
            if isinstance(message, Submit | Pool):
                ids.append(message.job.id)
        return ids
