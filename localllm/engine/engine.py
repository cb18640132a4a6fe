"""Engine: one thread, an inbox and the step loop. Owns the life of every request in the child.

Each request ends in exactly one Finished, or in one error when the engine itself fails.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from localllm.api import (
    Event,
    Finished,
    FinishReason,
    Notice,
    ReasoningDelta,
    SamplingParams,
    TextDelta,
    Timings,
    TokenLogprob,
    Usage,
)
from localllm.engine.batch import Batch
from localllm.engine.output import TextStream
from localllm.engine.runner import NoSpaceError, Runner
from localllm.engine.scheduler import Output, Scheduler
from localllm.engine.sequence import Sequence, SequenceStatus
from localllm.text.parsers import OutputParser, Piece

Events = list[tuple[int, list[Event]]]


class Pieces(Protocol):
    """The bytes of tokens."""

    def piece(self, token: int, special: bool = False) -> bytes:
        """The bytes a token stands for; control tokens give none unless `special`."""
        ...


@dataclass(slots=True)
class Job:
    """A request ready to run: token ids, all choices made. `max_tokens` None: to the end of the context."""

    id: int
    tokens: list[int]
    sampling: SamplingParams
    parser: OutputParser | None = None
    notices: tuple[Notice, ...] = ()


@dataclass(slots=True)
class _Running:
    """What the engine remembers of a request."""

    job: Job
    sequence: Sequence
    text: TextStream
    submitted: float
    started: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0
    num_reasoning: int = 0
    num_forced: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    events: list[Event] = field(default_factory=list)


class Engine:
    """Runs jobs on a Runner as the Scheduler decides. `emit` gets what each step brought; it must not block long."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        pieces: Pieces,
        emit: Callable[[Events], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._pieces = pieces
        self._emit = emit
        self._clock = clock
        # A job and when it came, the id of a request to abort, or None to stop.
        self._inbox: queue.SimpleQueue[tuple[Job, float] | int | None] = queue.SimpleQueue()
        self._requests: dict[int, _Running] = {}
        self._num_started = 0
        self.step_began = 0.0

    # --- called from other threads --------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queue a request. Its prompt must leave room for one token in the context."""
        self._inbox.put((job, self._clock()))

    def abort(self, request_id: int) -> None:
        """End a request between two steps; unknown ids are ignored."""
        self._inbox.put(request_id)

    def stop(self) -> None:
        """Leave the loop; running requests end as aborted."""
        self._inbox.put(None)

    @property
    def counts(self) -> tuple[int, int]:
        """Running and waiting requests."""
        return self._scheduler.num_running, self._scheduler.num_waiting

    # --- the engine's thread --------------------------------------------------------------------------------------

    def loop(self) -> None:
        """Run until `stop`. Raises EngineError when llama.cpp fails: every request of this engine is lost then."""
        while self._drain():
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
                    self._end(self._requests[unfit.id], "length")
                continue
            ended = self._clock()
            self._mark_started(batch, began)
            for output in self._scheduler.update(batch, sampled, int((ended - began) * 1e6)):
                self._take(output, ended)
            self.step_began = 0.0
            self._flush()
        for running in list(self._requests.values()):
            self._end(running, "abort")
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
            if message is None:
                return False
            if isinstance(message, tuple):
                self._start(*message)
            elif (running := self._requests.get(message)) is not None:
                self._end(running, "abort")
        self._flush()
        return True

    def _start(self, job: Job, submitted: float) -> None:
        self._num_started += 1
        sequence = Sequence(job.id, job.tokens, job.sampling.max_tokens, self._num_started)
        running = _Running(job, sequence, TextStream(job.sampling.stop or ()), submitted)
        running.events.extend(job.notices)
        self._requests[job.id] = running
        if job.sampling.max_tokens == 0:
            sequence.status = SequenceStatus.FINISHED
            self._end(running, "length")
            return
        self._runner.open(job.id, job.sampling, job.tokens)
        self._scheduler.add(sequence)

    def _mark_started(self, batch: Batch, began: float) -> None:
        for chunk in batch.chunks:
            running = self._requests[chunk.sequence_id]
            running.num_drafted += chunk.num_drafts
            if not running.started:
                running.started = began

    def _take(self, output: Output, now: float) -> None:
        running = self._requests[output.sequence.id]
        running.first_token = running.first_token or now
        running.last_token = now
        sampled = output.sampled
        running.num_accepted += sampled.num_accepted
        running.num_forced += max(0, output.num_tokens - (len(sampled.tokens) - sampled.num_forced))
        for at in range(output.num_tokens):
            if sampled.ends and at == len(sampled.tokens) - 1:
                break
            self._feed(running, sampled.tokens[at], sampled.logprobs[at] if sampled.logprobs else None)
            if running.text.stopped is not None:
                break
        if running.text.stopped is not None:
            self._end(running, "stop")
        elif output.finish is not None:
            self._end(running, output.finish)

    def _feed(self, running: _Running, token: int, logprob: TokenLogprob | None) -> None:
        """One token of the answer becomes text."""
        parser = running.job.parser
        special = parser is not None and self._is_wanted(parser, token)
        running.num_reasoning += parser is not None and parser.in_reasoning
        self._say(running, running.text.feed(self._pieces.piece(token, special), logprob))

    def _is_wanted(self, parser: OutputParser, token: int) -> bool:
        wanted = parser.wants_special
        return bool(wanted) and self._pieces.piece(token, special=True).decode("utf-8", "replace") in wanted

    def _say(self, running: _Running, text: str, last: bool = False) -> None:
        """Turn new text into events."""
        parser = running.job.parser
        parts: list[Piece] = [("text", text)] if text else []
        if parser is not None:
            parts = parser.feed(text) if text else []
            if last:
                parts += parser.flush()
        logprobs = running.text.take_logprobs() if parts else ()
        for kind, part in parts:
            if kind == "reasoning":
                running.events.append(ReasoningDelta(part, logprobs))
            else:
                running.events.append(TextDelta(part, logprobs))
            logprobs = ()

    def _end(self, running: _Running, reason: FinishReason) -> None:
        """End a request: say what was held back, free its slot, emit its Finished."""
        sequence = running.sequence
        if sequence.num_output or running.started:
            self._say(running, running.text.flush(), last=True)
        self._scheduler.finish(sequence)
        self._runner.release(sequence.id)
        if running.text.stopped is not None:
            reason = "stop"
        running.events.append(Finished(reason, _usage(running), _timings(running, self._clock()), running.text.stopped))
        self._emit([(sequence.id, running.events)])
        del self._requests[sequence.id]

    def _flush(self) -> None:
        """Emit what the step brought those that go on."""
        events: Events = []
        for request_id, running in self._requests.items():
            if running.events:
                events.append((request_id, running.events))
                running.events = []
        if events:
            self._emit(events)

    def abandon(self) -> list[int]:
        """Forget all requests after a failure of the engine; return their ids, for the one error each gets."""
        ids = list(self._requests)
        self._requests.clear()
        while not self._inbox.empty():
            message = self._inbox.get()
            if isinstance(message, tuple):
                ids.append(message[0].id)
        return ids


def _usage(running: _Running) -> Usage:
    sequence = running.sequence
    return Usage(
        sequence.num_prompt,
        sequence.num_cached,
        sequence.num_output,
        running.num_reasoning,
        running.num_forced,
        running.num_drafted,
        running.num_accepted,
    )


def _timings(running: _Running, now: float) -> Timings:
    started = running.started or now
    first = running.first_token or now
    return Timings(
        queue_s=started - running.submitted,
        prompt_s=max(0.0, first - started) if running.started else 0.0,
        decode_s=running.last_token - first if running.first_token else 0.0,
    )
