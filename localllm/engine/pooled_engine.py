"""PooledEngine: the engine of a model that makes no text. One thread, an inbox, and the batches of PooledWork."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass
from typing import NoReturn

from localllm.api import Control
from localllm.engine.job import Job
from localllm.engine.pooled_work import PooledJob, PooledWork
from localllm.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class _Abort:
    id: int


@dataclass(frozen=True, slots=True)
class _Stop:
    """Leave the loop."""


class PooledEngine:
    """What `engine.Engine` is for models that generate, as far as embedding and ranking need it."""

    def __init__(self, pooled: PooledWork) -> None:
        self._pooled = pooled
        self._inbox: queue.SimpleQueue[PooledJob | _Abort | _Stop] = queue.SimpleQueue()
        self.step_began = 0.0
        self.num_output_tokens = 0

    # --- called from other threads --------------------------------------------------------------------------------

    def submit(self, job: Job) -> NoReturn:
        """Refuse a generation."""
        raise InvalidRequestError("this model makes no text", hint="take a chat model", request_id=job.id)

    def submit_pooled(self, job: PooledJob) -> None:
        """Queue texts to be embedded or ranked."""
        self._inbox.put(job)

    def abort(self, request_id: int) -> None:
        """Forget a request between two batches; unknown ids are ignored."""
        self._inbox.put(_Abort(request_id))

    def steer(self, request_id: int, control: Control) -> None:
        """Change a request's course: all that can be done here is to stop it."""
        if control == "stop":
            self.abort(request_id)

    def stop(self) -> None:
        """Leave the loop."""
        self._inbox.put(_Stop())

    @property
    def counts(self) -> tuple[int, int]:
        """Running and waiting requests."""
        return len(self._pooled.ids), 0

    # --- the engine's thread --------------------------------------------------------------------------------------

    def loop(self) -> None:
        """Run until `stop`. Raises EngineError when llama.cpp fails: every request of this engine is lost then."""
        while self._drain():
            self.step_began = time.perf_counter()
            if self._pooled:
                self._pooled.step(alone=True)
            self.step_began = 0.0

    def _drain(self) -> bool:
        """Take in what arrived; wait for it when there is nothing to do. False: stop."""
        idle = not self._pooled
        while True:
            try:
                message = self._inbox.get(block=idle)
            except queue.Empty:
                return True
            idle = False
            match message:
                case _Stop():
                    return False
                case _Abort(job_id):
                    self._pooled.abort(job_id)
                case PooledJob():
                    self._pooled.add(message)

    def abandon(self) -> list[int]:
        """Forget all requests after a failure; return their ids, for the one error each gets."""
        ids = self._pooled.forget()
        while not self._inbox.empty():
            message = self._inbox.get()
            if isinstance(message, PooledJob):
                ids.append(message.id)
        return ids
