"""News of long work: from a callback, also in a thread, to a stream for whoever waits. Knows nothing of the work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from localllm.api import Notice, Progress, Queued

T = TypeVar("T")
News = Progress | Notice | Queued
Report = Callable[[News], None]


async def relay(run: Callable[[Report], Awaitable[T]]) -> AsyncIterator[News | T]:
    """Start `run(report)`; yield what it reports as it comes, and last what it returns. Closing cancels it."""
    items: asyncio.Queue[News | None] = asyncio.Queue()
    task = asyncio.ensure_future(run(items.put_nowait))
    task.add_done_callback(lambda _done: items.put_nowait(None))
    try:
        while (item := await items.get()) is not None:
            yield item
        yield await task
    finally:
        task.cancel()


def in_thread(work: Callable[[Report, threading.Event], T]) -> Callable[[Report], Awaitable[T]]:
    """Blocking `work(report, stop)` as something to await. Cancelling sets `stop`, at which the work must look."""

    async def run(report: Report) -> T:
        loop = asyncio.get_running_loop()
        stop = threading.Event()

        def pass_on(news: News) -> None:
            loop.call_soon_threadsafe(report, news)

        try:
            return await asyncio.to_thread(work, pass_on, stop)
        except asyncio.CancelledError:
            stop.set()
            raise

    return run
