"""EnginePool: which models are loaded. Owns their load, joined loads, leases, eviction and restart after a crash.

The pool decides; callers say `acquire` and get a running engine or one error. A busy model is never evicted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from localllm.api import LoadedModel, Notice, Progress
from localllm.engine.frames import LoadSpec
from localllm.engine.process import EngineProcess
from localllm.errors import LocalLLMError
from localllm.memory import Resident, which_to_evict

Listener = Callable[[Progress | Notice], None]


@dataclass(frozen=True, slots=True)
class PlannedLoad:
    """What to load under a name. `needed_bytes` is what it will take; `hold` is kept open while it is in memory."""

    spec: LoadSpec
    needed_bytes: int
    notices: tuple[Notice, ...]
    hold: AbstractContextManager[None]


@dataclass(eq=False, slots=True)
class _Entry:
    """A model in memory, or on its way there."""

    name: str
    plan: PlannedLoad
    engine: EngineProcess
    loading: asyncio.Task[None] | None = None
    listeners: list[Listener] = field(default_factory=list)
    num_users: int = 0
    last_used: float = 0.0

    def tell(self, news: Progress | Notice) -> None:
        for listener in list(self.listeners):
            listener(news)


class Lease:
    """The right to use an engine; a context manager that releases itself."""

    def __init__(self, entry: _Entry) -> None:
        self._entry = entry
        self.engine = entry.engine

    def __enter__(self) -> EngineProcess:
        return self.engine

    def __exit__(self, *_: object) -> None:
        self._entry.num_users -= 1
        self._entry.last_used = time.monotonic()


class EnginePool:
    """Engines by model name, within a memory budget.

    `available_bytes()` says what memory can be taken now; idle engines are evicted, least recently used first, when a
    new one needs more.
    """

    def __init__(self, available_bytes: Callable[[], int]) -> None:
        self._available_bytes = available_bytes
        self._entries: dict[str, _Entry] = {}

    async def acquire(
        self, name: str, plan: Callable[[], PlannedLoad], listener: Listener = lambda _news: None
    ) -> Lease:
        """An engine that runs `name`, loaded by `plan` unless it is there; joins a load under way.

        The engine stays until the lease is released. `listener` hears of the load's progress.
        """
        entry = self._entries.get(name)
        if entry is None or not entry.engine.is_alive:
            entry = self._begin(name, plan())
        entry.num_users += 1
        entry.listeners.append(listener)
        try:
            for notice in entry.plan.notices:
                listener(notice)
            assert entry.loading is not None
            # One impatient waiter must not end the load for the others.
            await asyncio.shield(entry.loading)
        except BaseException:
            entry.num_users -= 1
            raise
        finally:
            entry.listeners.remove(listener)
        return Lease(entry)

    def engines(self) -> list[EngineProcess]:
        """The engines that can take requests."""
        return [entry.engine for entry in self._entries.values() if entry.engine.is_alive]

    def loaded(self) -> list[LoadedModel]:
        """The models in memory."""
        return [_describe(entry) for entry in self._entries.values() if entry.engine.info is not None]

    async def unload(self, name: str) -> bool:
        """End the engine of `name` and give its memory back. False: it was not loaded."""
        entry = self._entries.pop(name, None)
        if entry is None:
            return False
        await self._end(entry)
        return True

    async def close(self) -> None:
        """End every engine."""
        await asyncio.gather(*(self.unload(name) for name in list(self._entries)))

    def _begin(self, name: str, plan: PlannedLoad) -> _Entry:
        """Make room, start a child and its load."""
        residents = [
            Resident(entry.name, entry.plan.needed_bytes, entry.last_used, busy=entry.num_users > 0)
            for entry in self._entries.values()
        ]
        missing = plan.needed_bytes - self._available_bytes()
        leaving = [self._entries.pop(victim) for victim in which_to_evict(residents, missing)] if missing > 0 else []
        plan.hold.__enter__()
        try:
            engine = EngineProcess(plan.spec, on_exit=lambda _error: self._forget(name))
        except BaseException:
            plan.hold.__exit__(None, None, None)
            raise
        entry = _Entry(name, plan, engine)
        self._entries[name] = entry
        entry.loading = asyncio.create_task(self._load(entry, leaving))
        # Whoever waits sees the error; with nobody left it is nobody's.
        entry.loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        return entry

    async def _load(self, entry: _Entry, leaving: list[_Entry]) -> None:
        for victim in leaving:
            await self._end(victim)
        try:
            async for fraction in entry.engine.start():
                entry.tell(Progress("load", entry.name, fraction, 1.0, unit="fraction"))
        except LocalLLMError:
            self._forget(entry.name)
            raise

    async def _end(self, entry: _Entry) -> None:
        await entry.engine.close()
        entry.plan.hold.__exit__(None, None, None)

    def _forget(self, name: str) -> None:
        """A child is gone by itself: the next request starts another."""
        entry = self._entries.get(name)
        if entry is not None and not entry.engine.is_alive:
            del self._entries[name]
            entry.plan.hold.__exit__(None, None, None)


def _describe(entry: _Entry) -> LoadedModel:
    info = entry.engine.info
    assert info is not None
    return LoadedModel(
        name=entry.name,
        pid=entry.engine.pid,
        num_ctx=info.num_ctx,
        num_slots=info.num_slots,
        num_ctx_train=info.num_ctx_train,
        device=info.device,
        num_active=entry.engine.num_active,
        load_s=info.load_s,
        bytes_by_device={info.device: entry.plan.needed_bytes},
    )
