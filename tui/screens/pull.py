"""Pulls: models on their way here, several at once. Each can wait and go on; what arrived stays on disk. No widgets.

They belong to the chat and not to the screen that shows them: a pull goes on while one talks.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Literal

from localllm.api import Backend, Progress
from localllm.closing import closing
from localllm.errors import (
    AccessDeniedError,
    DaemonUnreachableError,
    DigestMismatchError,
    DiskFullError,
    DownloadError,
    LocalLLMError,
    ModelNotFoundError,
    OfflineError,
)
from localllm.name import ModelName
from localllm.terminal_text import safe_line, safe_stream, size

PullState = Literal["running", "paused", "done", "failed"]
# A rate is that of the last seconds, and none before there is a stretch of time to speak of.
WINDOW_S = 5.0
_LEAST_S = 0.5


class Pull:
    """One model on its way. `done` and `total` are bytes, None where not known yet."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.name = name
        self.state: PullState = "running"
        self.progress: Progress | None = None
        self.error: LocalLLMError | None = None
        self.task: asyncio.Task[None] | None = None
        self._clock = clock
        self._counts: deque[tuple[float, float]] = deque()

    @property
    def share(self) -> float | None:
        """How much of it is here, of 1.0."""
        progress = self.progress
        if progress is None or not progress.total or progress.stage == "resolve" or self.state == "failed":
            return None
        return min(1.0, max(0.0, progress.done / progress.total))

    def take(self, progress: Progress) -> None:
        """How far it is now."""
        if self.progress is None or progress.stage != self.progress.stage:
            self._counts.clear()
        self.progress = progress
        now = self._clock()
        self._counts.append((now, progress.done))
        while len(self._counts) > 2 and now - self._counts[1][0] >= WINDOW_S:
            self._counts.popleft()

    def begin(self) -> None:
        """It runs, or runs again: what was measured before says nothing now."""
        if self.state != "paused":
            self.progress = None
        self.state, self.error = "running", None
        self._counts.clear()

    def bytes_per_s(self) -> float | None:
        """The measured rate."""
        if self.state != "running" or len(self._counts) < 2:
            return None
        (first, before), (last, after) = self._counts[0], self._counts[-1]
        return (after - before) / (last - first) if last - first >= _LEAST_S and after > before else None

    def seconds_left(self) -> float | None:
        """How long it still takes at that rate."""
        rate, progress = self.bytes_per_s(), self.progress
        if rate is None or progress is None or progress.total is None:
            return None
        return max(0.0, progress.total - progress.done) / rate

    def words(self) -> str:
        """Where it stands, in a line."""
        progress = self.progress
        if self.state == "done":
            return "installed"
        if self.state == "failed":
            return headline(self.error) if self.error is not None else "failed"
        if progress is None:
            return "paused" if self.state == "paused" else "asking"
        amount = size(progress.done)
        if progress.total:
            amount = f"{amount} of {size(progress.total)}"
        if self.state == "paused":
            return f"paused at {amount}" if progress.stage == "download" else "paused"
        match progress.stage:
            case "resolve":
                return f"asking {safe_line(progress.detail)}".rstrip()
            case "verify":
                return f"checking {amount}"
        parts = [amount]
        if (rate := self.bytes_per_s()) is not None:
            parts.append(f"{size(rate)}/s")
        if (left := self.seconds_left()) is not None:
            parts.append(f"{duration(left)} left")
        return "  ".join(parts)

    def trouble(self) -> str:
        """What went wrong, whole; empty where nothing did."""
        return trouble_words(self.error) if self.error is not None else ""


class Pulls:
    """The pulls of one chat, by the name that the model gets. `listeners` hear of every change, in the event loop."""

    def __init__(
        self, backend: Callable[[], Awaitable[Backend]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.listeners: list[Callable[[Pull], None]] = []
        self._backend = backend
        self._clock = clock
        self._pulls: dict[str, Pull] = {}

    def all(self) -> tuple[Pull, ...]:
        """In the order in which they were begun."""
        return tuple(self._pulls.values())

    def get(self, name: str) -> Pull | None:
        """The pull of that name."""
        return self._pulls.get(name)

    def start(self, text: str) -> Pull:
        """Begin, go on, or try again. Raises ModelNameError for what is no name."""
        name = str(ModelName.parse(text))
        pull = self._pulls.get(name)
        if pull is None:
            pull = self._pulls[name] = Pull(name, self._clock)
        if pull.task is None or pull.task.done():
            pull.begin()
            pull.task = asyncio.ensure_future(self._run(pull))
            self._tell(pull)
        return pull

    async def pause(self, name: str) -> None:
        """Let it wait. What arrived stays, and is not fetched again."""
        pull = self._pulls.get(name)
        if pull is None or pull.task is None or pull.task.done():
            return
        pull.task.cancel()
        await asyncio.wait({pull.task})
        self._tell(pull)

    async def drop(self, name: str) -> None:
        """Take it off the list; what arrived stays on disk for another time."""
        await self.pause(name)
        if (pull := self._pulls.pop(name, None)) is not None:
            self._tell(pull)

    async def close(self) -> None:
        """Let all of them wait: the chat ends."""
        self.listeners.clear()
        for pull in self.all():
            await self.pause(pull.name)

    async def _run(self, pull: Pull) -> None:
        try:
            backend = await self._backend()
            async with closing(backend.pull(pull.name)) as steps:
                async for progress in steps:
                    pull.take(progress)
                    self._tell(pull)
            pull.state = "done"
        except LocalLLMError as exc:
            pull.state, pull.error = "failed", exc
        except asyncio.CancelledError:
            pull.state = "paused"
        self._tell(pull)

    def _tell(self, pull: Pull) -> None:
        for listener in list(self.listeners):
            listener(pull)


def headline(error: LocalLLMError) -> str:
    """Why a pull failed, in a few words."""
    match error:
        case OfflineError():
            return "not here, and the network is off"
        case AccessDeniedError():
            return "its source wants you to sign in or accept a licence"
        case DigestMismatchError():
            return "the bytes were not the promised ones; they were deleted"
        case DiskFullError():
            return "the disk is full"
        case ModelNotFoundError():
            return "no such model"
        case DaemonUnreachableError():
            return "the daemon is gone"
        case DownloadError():
            return "no source delivered it"
    return "it could not be fetched"


def trouble_words(error: LocalLLMError) -> str:
    """An error whole: what happened, each source that was tried, and what helps."""
    tried = error.facts.get("tried")
    lines = [error.message, *(map(str, tried) if isinstance(tried, list | tuple) else ())]
    if isinstance(error, DiskFullError) and "free_bytes" in error.facts:
        lines.append(f"{size(error.facts['needed_bytes'])} needed, {size(error.facts['free_bytes'])} free")
    if error.hint:
        lines.append(error.hint)
    return safe_stream("\n".join(dict.fromkeys(lines)))


def duration(seconds: float) -> str:
    """`12 s`, `3 min`, `2 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
