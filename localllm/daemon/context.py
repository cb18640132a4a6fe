"""Daemon: what every dialect is given. Owns the way from a request value to the Backend's events, and its bounds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Collection, Iterator

import msgspec

from localllm.api import Backend, ChatRequest, CompletionRequest, Event, Finished
from localllm.daemon.admission import Admission
from localllm.daemon.body import Bodies
from localllm.daemon.errors import HttpError
from localllm.daemon.guard import Caller
from localllm.daemon.limits import Limits
from localllm.daemon.metrics import Metrics
from localllm.errors import ModelNotFoundError
from localllm.name import ModelName


class Daemon:
    """A Backend behind HTTP. `files`: names of model files that clients may run; others of theirs are refused.

    `default_model` answers where a client names none.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        default_model: str,
        version: str = "unknown",
        limits: Limits | None = None,
        files: Collection[str] = (),
        any_file: bool = False,
    ) -> None:
        self.backend = backend
        self.default_model = default_model
        self.version = version
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self.admission = Admission(self.limits.num_requests, self.limits.num_requests_per_key)
        self.started = time.monotonic()
        self.is_draining = False
        self._any_file = any_file
        self._files = {_file_name(name) for name in files}
        self.bodies = Bodies(self.limits)

    def run(self, request: ChatRequest | CompletionRequest, caller: Caller) -> AsyncIterator[Event]:
        """The events of a request, which takes a place among those under way as long as they are read.

        Raises ModelNotFoundError or ModelNameError for a name a client may not use, and HttpError while shutting down.
        """
        self.check_model(request.model)
        self.check_open()
        deadline_s = min(request.deadline_s or self.limits.request_s, self.limits.request_s)
        request = msgspec.structs.replace(request, client=caller.client, deadline_s=deadline_s)
        return self._counted(request, caller)

    async def _counted(self, request: ChatRequest | CompletionRequest, caller: Caller) -> AsyncIterator[Event]:
        began = time.monotonic()
        with self.admission.place(caller.key):
            ask = self.backend.chat if isinstance(request, ChatRequest) else self.backend.complete
            events = ask(request)  # type: ignore[arg-type]
            async with contextlib.aclosing(events):  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, Finished):
                        self.metrics.count_generation(event, time.monotonic() - began)
                    yield event

    @contextlib.contextmanager
    def place(self, model: str, caller: Caller) -> Iterator[None]:
        """A place among the requests under way, for what is no stream. Raises as `run` does, and QueueFullError."""
        self.check_model(model)
        self.check_open()
        with self.admission.place(caller.key):
            yield

    def check_model(self, model: str) -> None:
        """Refuse a path to a file, unless it is one that may be used: clients must not reach about on this disk."""
        name = ModelName.parse(model)
        if name.source == "file" and not self._any_file and str(name.absolute()) not in self._files:
            raise ModelNotFoundError(f"no model {model}", hint="clients name installed models, not files", name=model)

    def check_open(self) -> None:
        """Raise while shutting down."""
        if self.is_draining:
            raise HttpError(503, "shutting_down", "the daemon is shutting down", retry_after_s=5.0)


def _file_name(model: str) -> str:
    return str(ModelName.parse(model).absolute())
