"""EventStream: a Backend's events on their way to one client, as they come and as fast as the client reads.

What one step of the engine brings is one write. A client that reads slowly gets larger pieces, not later ones; one that
does not read holds a bounded amount, then is dropped. Nothing here switches tasks per token: events are gathered by the
one task of the request and written by a callback of the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from starlette.types import Receive, Scope, Send

from localllm.api import Event, Notice, Progress, PromptLogprobs, Queued, ReasoningDelta, TextDelta
from localllm.closing import closing
from localllm.daemon.errors import SHUTTING_DOWN, Problem, problem_of, problem_of_defect
from localllm.daemon.limits import Limits
from localllm.errors import LocalLLMError

_EVENT_BYTES = 200
_LOGPROB_BYTES = 400
_COMPACT_BYTES = 16 * 1024


class Connection(Protocol):
    """What the server's protocol gives a stream: writing without a task, and word of what the client does."""

    is_lost: bool
    on_lost: Callable[[], object] | None
    on_writable: Callable[[], object] | None

    @property
    def is_writable(self) -> bool:
        """Whether what is written now goes out soon."""
        ...

    @property
    def num_buffered(self) -> int:
        """Bytes written that the system has not taken yet."""
        ...

    @property
    def num_taken(self) -> int:
        """Bytes written that the system has taken, since the client connected."""
        ...

    @property
    def unheard_s(self) -> float:
        """Seconds in which what was sent was not acknowledged by the client's machine; 0 where that is not known."""
        ...

    def write(self, data: bytes) -> None:
        """Write a piece of the body whose response has begun."""
        ...

    def abort(self) -> None:
        """Drop the client."""
        ...


class Encoder(Protocol):
    """One dialect's form of a stream. Has a state of its own for each request."""

    media_type: str
    ping: bytes

    def encode(self, events: Sequence[Event]) -> bytes:
        """The events as bytes; none for what the dialect has no form for. The last call ends with Finished."""
        ...

    def fail(self, problem: Problem) -> bytes:
        """The one error event that ends a stream."""
        ...


class EventStream:
    """A response that writes events as they come. An error before the first of them is raised to the caller instead.

    News of a load count as nothing yet, unless `eager`: where they are the answer.
    """

    status_code = 200

    def __init__(self, events: AsyncIterator[Event], encoder: Encoder, limits: Limits, *, eager: bool = False) -> None:
        self._events = events
        self._eager = eager
        self._encoder = encoder
        self._limits = limits
        self._tick_s = min(limits.ping_s / 2, limits.stall_s / 4)
        self._pending: list[Event] = []
        self._num_pending_bytes = 0
        self._has_begun = False
        self._flush_is_due = False
        self._quiet_s = 0.0
        self._num_taken = -1
        self._stalled_s = 0.0
        self._unheard_s = 0.0
        self._room = asyncio.Event()

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Write the stream to its end. Raises LocalLLMError while nothing was written; CancelledError passes."""
        self._connection: Connection = scope["state"]["connection"]
        self._send = send
        if scope["method"] == "HEAD":
            async with closing(self._events):
                await self._begin()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._tick_s, self._tick)
        self._connection.on_writable = self._on_writable
        try:
            tail = await self._pump()
            self._flush()
            while self._pending:
                await self._wait_for_room()
            await send({"type": "http.response.body", "body": tail, "more_body": False})
        finally:
            self._timer.cancel()
            self._connection.on_writable = None

    async def _pump(self) -> bytes:
        """Take events until they end; returns what is to be written after the last of them."""
        try:
            async with closing(self._events) as events:
                async for event in events:
                    if not self._has_begun and (self._eager or not isinstance(event, Progress | Notice | Queued)):
                        await self._begin()
                    self._pending.append(event)
                    if not self._connection.is_writable:
                        await self._hold(event)
                    elif not self._flush_is_due:
                        self._flush_is_due = True
                        self._loop.call_soon(self._flush)
        except LocalLLMError as error:
            if not self._has_begun:
                raise
            return self._encoder.fail(problem_of(error))
        except asyncio.CancelledError:
            if not self._connection.is_lost and self._has_begun:
                self._flush()
                self._connection.write(self._encoder.fail(SHUTTING_DOWN))
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            raise
        except Exception as error:
            # Passed on to `App`, which can no longer answer once this has begun: so the stream ends with an error here.
            if self._has_begun:
                self._flush()
                self._connection.write(self._encoder.fail(problem_of_defect(error)))
            raise
        if not self._has_begun:
            await self._begin()
        return b""

    async def _begin(self) -> None:
        """Send the head, once; from here on an error is an event."""
        if self._has_begun:
            return
        self._has_begun = True
        headers = [
            (b"content-type", self._encoder.media_type.encode()),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    def _flush(self) -> None:
        """Write what is pending, if the client takes it."""
        self._flush_is_due = False
        if not self._pending or not self._has_begun or not self._connection.is_writable:
            return
        data = self._encoder.encode(merged(self._pending))
        self._pending.clear()
        self._num_pending_bytes = 0
        if data:
            self._quiet_s = 0.0
            self._connection.write(data)

    # --- a client that reads slowly -------------------------------------------------------------------------------

    async def _hold(self, event: Event) -> None:
        """Keep an event for later; too many of them, and no more are taken until the client reads."""
        self._num_pending_bytes += _weight(event)
        if self._num_pending_bytes > _COMPACT_BYTES and len(self._pending) > 16:
            self._pending = merged(self._pending)
            self._num_pending_bytes = sum(map(_weight, self._pending))
        while self._num_pending_bytes > self._limits.pending_bytes:
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        self._room.clear()
        await self._room.wait()

    def _on_writable(self) -> None:
        self._flush()
        self._room.set()

    def _tick(self) -> None:
        """Now and then: a sign of life on a quiet stream, and an end to one whose client reads nothing."""
        self._timer = self._loop.call_later(self._tick_s, self._tick)
        connection = self._connection
        num_taken = connection.num_taken
        stands_still = connection.num_buffered > 0 and num_taken == self._num_taken
        self._stalled_s = self._stalled_s + self._tick_s if stands_still else 0.0
        self._num_taken = num_taken
        has_vanished = self._has_vanished(connection.unheard_s)
        if self._stalled_s >= self._limits.stall_s or has_vanished:
            connection.abort()
        elif not self._has_begun:
            self._beginning = self._loop.create_task(self._begin())
        elif self._quiet_s >= self._limits.ping_s and connection.is_writable and self._encoder.ping:
            connection.write(self._encoder.ping)
            self._quiet_s = 0.0
        self._quiet_s += self._tick_s

    def _has_vanished(self, unheard_s: float) -> bool:
        """Whether a client's machine is gone. On a quiet stream, the last it was heard of may be long ago."""
        self._unheard_s = min(unheard_s, self._unheard_s + self._tick_s) if unheard_s else 0.0
        return self._unheard_s >= self._limits.vanish_s


def merged(events: list[Event]) -> list[Event]:
    """The same stream in fewer events: each answer's neighbouring pieces of one kind in one."""
    if len(events) == 1:
        return events
    runs: list[Event | list[TextDelta | ReasoningDelta]] = []
    open_runs: dict[int, list[TextDelta | ReasoningDelta]] = {}
    for event in events:
        if not isinstance(event, TextDelta | ReasoningDelta):
            runs.append(event)
            open_runs.pop(getattr(event, "index", 0), None)
            continue
        run = open_runs.get(event.index)
        if run is not None and type(run[0]) is type(event):
            run.append(event)
        else:
            open_runs[event.index] = run = [event]
            runs.append(run)
    return [_joined(run) if isinstance(run, list) else run for run in runs]


def _joined(run: list[TextDelta | ReasoningDelta]) -> Event:
    if len(run) == 1:
        return run[0]
    text = "".join(delta.text for delta in run)
    logprobs = tuple(logprob for delta in run for logprob in delta.logprobs)
    return type(run[0])(text, logprobs, run[0].index)


def _weight(event: Event) -> int:
    """About how many bytes an event takes until it is written."""
    if isinstance(event, TextDelta | ReasoningDelta | PromptLogprobs):
        num_alternatives = sum(1 + len(logprob.top) for logprob in event.logprobs)
        return _EVENT_BYTES + len(getattr(event, "text", "")) * 2 + _LOGPROB_BYTES * num_alternatives
    return _EVENT_BYTES
