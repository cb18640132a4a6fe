"""Running: the generations under way and where each stands, for the queue's listing. Keeps no text."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Literal

import msgspec

from localllm.api import ChatRequest, CompletionRequest, Event, Notice, Progress, Queued
from localllm.daemon.guard import Caller
from localllm.daemon.keys import OWNER
from localllm.errors import InvalidRequestError

State = Literal["waiting", "loading", "queued", "running"]


class Job(msgspec.Struct):
    """A generation under way. `num_ahead` and `eta_s` as the engine last said them, while it is "queued".

    `in_batch`: nobody waits for it but a batch.
    """

    id: str
    model: str
    kind: Literal["chat", "completion"]
    key: str
    began: float
    priority: int = 0
    state: State = "waiting"
    num_ahead: int | None = None
    eta_s: float | None = None
    in_batch: bool = False

    def note(self, event: Event) -> None:
        """Take from an event where the request stands; to be called until it is "running"."""
        match event:
            case Progress():
                self.state = "loading"
            case Queued(num_ahead, eta_s):
                self.state, self.num_ahead, self.eta_s = "queued", num_ahead, eta_s
            case Notice():
                pass
            case _:
                self.state, self.num_ahead, self.eta_s = "running", None, None


class Running:
    """The generations under way, in the order in which they came."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def jobs(self) -> list[Job]:
        """All of them."""
        return list(self._jobs.values())

    def is_of(self, request_id: str, caller: Caller) -> bool:
        """Whether a request of this id runs and this caller may steer it."""
        job = self._jobs.get(request_id)
        return job is not None and self.is_for(job, caller)

    def is_for(self, job: Job, caller: Caller) -> bool:
        """Whether this caller may know a request and steer it: its own ones; whoever runs the daemon, any."""
        return caller.key in (job.key, OWNER)

    @contextlib.contextmanager
    def job(self, request: ChatRequest | CompletionRequest, caller: Caller) -> Iterator[Job]:
        """List a request for the block. Raises InvalidRequestError where one of its id runs already."""
        assert request.request_id is not None
        if request.request_id in self._jobs:
            raise InvalidRequestError("a request of this id is running", hint="name each anew", param="request_id")
        kind: Literal["chat", "completion"] = "chat" if isinstance(request, ChatRequest) else "completion"
        job = Job(
            request.request_id,
            request.model,
            kind,
            caller.key,
            time.monotonic(),
            request.priority,
            in_batch=caller.is_batch,
        )
        self._jobs[job.id] = job
        try:
            yield job
        finally:
            del self._jobs[job.id]
