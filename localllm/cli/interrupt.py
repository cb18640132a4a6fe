"""Ctrl-C while an answer runs: the answer is stopped, the program goes on. The one place that touches SIGINT."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


async def stoppable(work: Coroutine[Any, Any, None]) -> bool:
    """Run `work` to its end, or until Ctrl-C cancels it; False when it was stopped.

    A second Ctrl-C, while the first is still being obeyed, raises KeyboardInterrupt. Must run in the main thread.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    num_signals = 0

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal num_signals
        num_signals += 1
        if num_signals > 2:
            raise KeyboardInterrupt
        loop.call_soon_threadsafe(task.cancel)

    before = signal.signal(signal.SIGINT, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not num_signals:
            task.cancel()
            raise
    finally:
        signal.signal(signal.SIGINT, before)
    if num_signals > 1:
        raise KeyboardInterrupt
    return not num_signals or not task.cancelled()


@contextmanager
def interrupting() -> Iterator[None]:
    """Within the block Ctrl-C raises KeyboardInterrupt at once, as a blocking read of a line needs it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
