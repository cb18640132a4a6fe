"""Daemon: what every dialect is given. Owns the way from a request value to the Backend's events, and its bounds."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from localllm import paths
from localllm.api import Backend, ChatRequest, CompletionRequest, Event, Finished
from localllm.closing import closing
from localllm.daemon.admission import Admission
from localllm.daemon.body import Bodies
from localllm.daemon.errors import HttpError
from localllm.daemon.guard import Caller
from localllm.daemon.inspector import Inspected, Inspector
from localllm.daemon.limits import Limits
from localllm.daemon.metrics import Metrics
from localllm.daemon.recent import RecentLines
from localllm.daemon.running import Running
from localllm.errors import LocalLLMError, ModelNotFoundError
from localllm.name import ModelName

P = TypeVar("P", bound="Part")


class Part(Protocol):
    """What a dialect keeps between requests."""

    def __init__(self, daemon: Daemon) -> None: ...

    async def close(self) -> None:
        """End what goes on by itself."""
        ...


class Daemon:
    """A Backend behind HTTP. `files`: names of model files that clients may run; others of theirs are refused.

    `default_model` answers where a client names none. What outlives the daemon is kept in `state_dir`. `tasks` are
    answers that no connection waits for; a drain waits for them as for others.
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
        state_dir: Path | None = None,
        num_inspected: int = 0,
    ) -> None:
        self.backend = backend
        self.state_dir = state_dir or paths.state_dir()
        self.tasks: set[asyncio.Task[None]] = set()
        self._parts: dict[type, Part] = {}
        self.default_model = default_model
        self.version = version
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self.admission = Admission(self.limits.num_requests, self.limits.num_requests_per_key)
        self.started = time.monotonic()
        self.is_draining = False
        self.running = Running()
        self.recent = RecentLines()
        self.inspector = Inspector(num_inspected) if num_inspected else None
        self.reload: Callable[[], Awaitable[None]] | None = None
        self.any_file = any_file
        self._files = {_file_name(name) for name in files}
        self.bodies = Bodies(self.limits)

    def part(self, kind: type[P]) -> P:
        """The one `kind` of this daemon, made when first asked for."""
        found = self._parts.get(kind)
        if found is None:
            found = self._parts[kind] = kind(self)
        assert isinstance(found, kind)
        return found

    async def close(self) -> None:
        """Close the parts, each before those it stands on."""
        for part in reversed(self._parts.values()):
            await part.close()

    def run(self, request: ChatRequest | CompletionRequest, caller: Caller) -> AsyncIterator[Event]:
        """The events of a request, which takes a place among those under way as long as they are read.

        Raises ModelNotFoundError or ModelNameError for a name a client may not use, and HttpError while shutting down.
        """
        self.check_model(request.model)
        self.check_open()
        deadline_s = min(request.deadline_s or self.limits.request_s, self.limits.request_s)
        # A key stands for one client, whatever it says; without keys a request may say whose it is.
        client = caller.key or request.client or caller.peer
        request_id = request.request_id or secrets.token_hex(12)
        request = msgspec.structs.replace(request, client=client, deadline_s=deadline_s, request_id=request_id)
        return self._counted(request, caller)

    async def _counted(self, request: ChatRequest | CompletionRequest, caller: Caller) -> AsyncIterator[Event]:
        began = time.monotonic()
        with self.admission.place(caller.key), self.running.job(request, caller) as job:
            events = self._events(request, caller)
            async with closing(events):
                async for event in events:
                    if job.state != "running":
                        job.note(event)
                    if isinstance(event, Finished):
                        self.metrics.count_generation(event, time.monotonic() - began)
                    yield event

    def _events(self, request: ChatRequest | CompletionRequest, caller: Caller) -> AsyncIterator[Event]:
        if self.inspector is not None:
            return self._inspected(request, self.inspector.begin(request, caller))
        return self.backend.chat(request) if isinstance(request, ChatRequest) else self.backend.complete(request)

    async def _inspected(self, request: ChatRequest | CompletionRequest, record: Inspected) -> AsyncIterator[Event]:
        request = msgspec.structs.replace(request, receipt=True)
        events = self.backend.chat(request) if isinstance(request, ChatRequest) else self.backend.complete(request)
        try:
            async with closing(events):
                async for event in events:
                    yield record.take(event)
        except LocalLLMError as exc:
            record.error = exc.message
            raise
        finally:
            if record.finished is None:
                record.state = "failed"

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
        if name.source == "file" and not self.any_file and str(name.absolute()) not in self._files:
            raise ModelNotFoundError(f"no model {model}", hint="clients name installed models, not files", name=model)

    def check_open(self) -> None:
        """Raise while shutting down."""
        if self.is_draining:
            raise HttpError(503, "shutting_down", "the daemon is shutting down", retry_after_s=5.0)


def _file_name(model: str) -> str:
    return str(ModelName.parse(model).absolute())
