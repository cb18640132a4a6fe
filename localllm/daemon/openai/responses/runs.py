"""Responses: the part of the daemon that answers them. Those in the background run on when their client is gone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from localllm.api import Event, Notice, Progress, Queued
from localllm.closing import closing
from localllm.daemon.context import Daemon
from localllm.daemon.errors import SHUTTING_DOWN, UNEXPECTED, Problem, problem_of
from localllm.daemon.openai.database import Database
from localllm.daemon.openai.responses.store import ResponseStore, Stored
from localllm.daemon.openai.responses.transcript import Transcript
from localllm.daemon.openai.values import error_body
from localllm.errors import LocalLLMError

_NO_LOG = Problem(507, "no_events", "the events of this response are not kept")


class Run:
    """A response under way. `stored`: what it is kept as, without what it says; None: it is not kept."""

    def __init__(self, transcript: Transcript, owner: str, stored: Stored | None, *, keeps_log: bool) -> None:
        self.transcript = transcript
        self.owner = owner
        self.stored = stored
        self.task: asyncio.Task[None] | None = None
        self.is_over = False
        self._keeps_log = keeps_log
        self._news = asyncio.Event()
        if not keeps_log:
            transcript.log = None

    def snapshot(self) -> Stored | None:
        """What is to be kept of it now."""
        if self.stored is None:
            return None
        log = self.transcript.log if self._keeps_log else None
        old = self.stored
        return Stored(old.id, old.owner, old.created, old.previous, self.transcript.response, old.items, log)

    def tell(self) -> None:
        """Wake those who follow."""
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, after: int) -> AsyncIterator[bytes]:
        """The events behind number `after`, as they come."""
        at = after + 1
        while True:
            news, over = self._news, self.is_over
            log = self.transcript.log
            if log is None:
                yield b"event: error\ndata: " + error_body(_NO_LOG) + b"\n\n"
                return
            while at < len(log):
                yield log[at]
                at += 1
            if over:
                return
            await news.wait()


class Responses:
    """What is stored and what runs. Made once for a daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.store = ResponseStore(daemon.part(Database))
        self.live: dict[str, Run] = {}

    async def close(self) -> None:
        """End what still runs."""
        tasks = [run.task for run in self.live.values() if run.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def mine(self, response_id: str, owner: str) -> Run | None:
        """The response under way of that id, if it is this client's."""
        run = self.live.get(response_id)
        return run if run is not None and run.owner == owner else None

    async def pieces(self, run: Run, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        """The events of a response as they come. An error is raised, after the events that tell of it."""
        transcript = run.transcript
        self._enter(run)
        try:
            async with closing(events) as stream:
                async for event in stream:
                    for piece in transcript.take(event):
                        yield piece
                    run.tell()
        except (asyncio.CancelledError, GeneratorExit):
            # Its client is gone, or told it to end, or a drain did; what it has is kept. A client that waits hears of
            # a drain at the end of its stream, any other when it asks.
            if run.task is not None and self._daemon.is_draining:
                transcript.fail(SHUTTING_DOWN)
            transcript.cancel()
            raise
        except Exception as error:
            problem = problem_of(error) if isinstance(error, LocalLLMError) else UNEXPECTED
            for piece in transcript.fail(problem) if transcript.has_begun else ():
                yield piece
            raise
        finally:
            await self._leave(run)

    async def start(self, run: Run, events: AsyncIterator[Event]) -> None:
        """Let a response run by itself. It is stored at once, so that it can be asked for."""
        stored = run.snapshot()
        assert stored is not None
        await self.store.put(stored)
        self._enter(run)
        run.transcript.begin()
        run.task = asyncio.create_task(self._go(run, events))
        self._daemon.tasks.add(run.task)
        run.task.add_done_callback(self._daemon.tasks.discard)

    async def _go(self, run: Run, events: AsyncIterator[Event]) -> None:
        with contextlib.suppress(LocalLLMError, asyncio.CancelledError):
            async with closing(self.pieces(run, events)) as pieces:
                async for _piece in pieces:
                    pass

    async def cancel(self, run: Run) -> None:
        """End a response in the background."""
        assert run.task is not None
        run.task.cancel()
        await asyncio.gather(run.task, return_exceptions=True)

    def _enter(self, run: Run) -> None:
        if run.stored is not None:
            self.live[run.stored.id] = run

    async def _leave(self, run: Run) -> None:
        run.is_over = True
        run.tell()
        stored = run.snapshot()
        if stored is None:
            return
        try:
            if run.transcript.has_begun:
                await self.store.put(stored)
        finally:
            self.live.pop(stored.id, None)


class PieceEncoder:
    """The form of a stream whose events are bytes already."""

    media_type = "text/event-stream"
    ping = b": ping\n\n"

    def __init__(self, transcript: Transcript | None = None) -> None:
        self._transcript = transcript

    def encode(self, events: Any) -> bytes:
        """The events, one after the other; none of them for what is news before the first."""
        return b"".join(event for event in events if not isinstance(event, Progress | Notice | Queued))

    def fail(self, problem: Problem) -> bytes:
        """The events that say a response failed, if they are not among those that were encoded."""
        return b"" if self._transcript is None else b"".join(self._transcript.fail(problem))


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())
