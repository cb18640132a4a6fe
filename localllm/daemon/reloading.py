"""Reloading: keys, settings and the catalogue are read again while streams go on. All of it, or nothing changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from localllm.daemon.app import App
from localllm.errors import LocalLLMError

logger = logging.getLogger(__name__)

# Reads everything anew, in a thread, and returns what puts it in force, in the event loop. Raises LocalLLMError.
Prepare = Callable[[], Callable[[], None]]


class Reloader:
    """Reloads a daemon. Whoever asks while one is under way shares the next: it reads what is there then."""

    def __init__(self, app: App, prepare: Prepare) -> None:
        self._prepare = prepare
        self._lock = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        app.daemon.reload = self.reload

    async def reload(self) -> None:
        """Read everything again. Raises what is wrong with it; all is as before then."""
        if self._next is None:
            self._next = asyncio.create_task(self._reload())
        await asyncio.shield(self._next)

    def reload_soon(self, say: Callable[[str], None]) -> None:
        """The same for a signal: what came of it is said."""
        task = asyncio.create_task(self._reload_and_say(say))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        async with self._lock:
            self._next = None
            apply = await asyncio.to_thread(self._prepare)
            apply()
            logger.info("keys, settings and catalogue were read again")

    async def _reload_and_say(self, say: Callable[[str], None]) -> None:
        try:
            await self.reload()
            say("keys, settings and catalogue were read again")
        except LocalLLMError as exc:
            logger.info("not read again: %s", exc.message)
            say(f"not read again, all is as it was: {exc.message}")
