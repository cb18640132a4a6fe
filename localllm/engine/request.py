"""Request: what the engine remembers of a job while it runs; its usage, its times and what is new of it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from localllm.api import Event, SamplingParams, Timings, Usage
from localllm.engine.answer import Answer
from localllm.engine.job import Job


class Request:
    """A job under way and its answers. Times are the engine's clock; 0: not yet."""

    __slots__ = (
        "answers",
        "events",
        "first_token",
        "job",
        "last_token",
        "place_told",
        "started",
        "stop_thinking",
        "submitted",
    )

    def __init__(self, job: Job, submitted: float) -> None:
        self.job = job
        self.submitted = submitted
        self.answers: list[Answer] = []
        self.events: list[Event] = list(job.notices)
        self.started = 0.0
        self.first_token = 0.0
        self.last_token = 0.0
        self.stop_thinking = False
        self.place_told = -1

    @property
    def has_ended(self) -> bool:
        """Whether all its answers have."""
        return all(answer.reason is not None for answer in self.answers)

    @property
    def usage(self) -> Usage:
        """Its tokens, over all answers."""
        first = self.answers[0].sequence

        def total(count: Callable[[Answer], int]) -> int:
            return sum(map(count, self.answers))

        return Usage(
            num_prompt_tokens=first.num_prompt,
            num_cached_tokens=first.num_cached,
            num_output_tokens=total(lambda answer: answer.sequence.num_output),
            num_reasoning_tokens=total(lambda answer: answer.num_reasoning),
            num_forced_tokens=total(lambda answer: answer.num_forced),
            num_drafted_tokens=total(lambda answer: answer.num_drafted),
            num_accepted_tokens=total(lambda answer: answer.num_accepted),
        )

    def is_late(self, now: float) -> bool:
        """Whether its time is up."""
        return self.job.deadline_s is not None and now - self.submitted >= self.job.deadline_s

    def timings(self, now: float) -> Timings:
        """Where its time went."""
        started = self.started or now
        first = self.first_token or now
        return Timings(
            queue_s=started - self.submitted,
            prompt_s=max(0.0, first - started) if self.started else 0.0,
            decode_s=self.last_token - first if self.first_token else 0.0,
        )

    def wants_answer_of(self, answer: Answer) -> bool:
        """Whether an answer has thought enough: its budget is spent, or somebody said so."""
        budget = self.job.reasoning_budget
        enough = self.stop_thinking or (budget is not None and answer.num_reasoning >= budget)
        return enough and bool(self.job.end_of_reasoning) and answer.in_reasoning

    def take_events(self) -> list[Event]:
        """What is new since the last call."""
        for answer in self.answers:
            self.events.extend(answer.events)
            answer.events.clear()
        events, self.events = self.events, []
        return events


def sampling_of(job: Job, index: int) -> SamplingParams:
    """The parameters of one answer: several answers of one seed differ, each in the same way every time."""
    seed = job.sampling.seed
    if index == 0 or seed is None:
        return job.sampling
    return msgspec.structs.replace(job.sampling, seed=(seed + index) % 2**32)
