"""EnginePool: which models are loaded. Owns loads, joined loads, leases, keep-alive, room, restart after a crash.

The pool decides; callers say `acquire` and get a running engine or one error. Who asked first is loaded first. For a
model that does not fit beside the others these leave: idle ones at once, busy ones when they have ended what they run,
and what is asked of those meanwhile waits behind the one they leave for.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable
from typing import Any

from localllm import pool_rules
from localllm.api import LoadedModel, Progress, Queued
from localllm.engine.process import EngineProcess
from localllm.errors import EngineCrashedError, EngineError, LocalLLMError, OutOfMemoryError
from localllm.news import Report
from localllm.pool_entry import Entry, Lease, PlannedLoad, Planner, Timer, describe
from localllm.pool_pace import Pace
from localllm.pool_room import Room

__all__ = ["EnginePool", "Lease", "PlannedLoad"]

logger = logging.getLogger(__name__)

_TELL_S = 1.0
_RETRY_SHARE = 3  # after a load that failed for want of memory, the next may take two thirds of it


class EnginePool:
    """Engines by model name, within a memory budget.

    `available_bytes()` says what memory can be taken now; `budget_bytes` bounds all models together (None: what was
    free when none was loaded). `keep_alive_s`: how long a model stays once idle, where a request does not say
    (negative: for ever). The rest stands in for the world: starting an engine, the clock, timers.
    """

    def __init__(
        self,
        available_bytes: Callable[[], int],
        *,
        keep_alive_s: float = -1.0,
        budget_bytes: int | None = None,
        start_engine: Callable[..., EngineProcess] = EngineProcess,
        clock: Callable[[], float] = time.monotonic,
        call_later: Callable[[float, Callable[[], None]], Timer] | None = None,
    ) -> None:
        self.keep_alive_s = keep_alive_s
        self.room = Room(available_bytes, budget_bytes)
        self._start_engine = start_engine
        self._clock = clock
        self._call_later = call_later or _on_loop
        self._entries: dict[str, Entry] = {}
        # Whoever takes memory: those of `_entries` with an engine, and those that are leaving.
        self._residents: list[Entry] = []
        self._pins: set[str] = set()
        self._crashes = pool_rules.Crashes()
        self._pace = Pace()
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what callers do ------------------------------------------------------------------------------------------

    async def acquire(
        self,
        name: str,
        plan: Planner,
        listener: Report = lambda _news: None,
        *,
        keep_alive_s: float | None = None,
        pin: bool | None = None,
        insist: bool = False,
    ) -> Lease:
        """An engine that runs `name`, loaded by `plan` unless it is there; joins a load under way.

        The engine stays until the lease is released. `listener` hears of the load's progress. `insist` tries a model
        again that crashed too often. Raises what the load raises, ModelCrashingError, OutOfMemoryError.
        """
        if insist:
            self._crashes.forget(name)
        entry = self._entries.get(name)
        if entry is None or not entry.takes_requests:
            self._crashes.check(name, self._clock())
            entry = self._begin(name, plan)
        if keep_alive_s is not None:
            entry.keep_alive_s = keep_alive_s
        if pin is not None:
            self._set_pin(entry, pin)
        entry.disarm()
        entry.num_users += 1
        entry.listeners.append(listener)
        try:
            for notice in entry.planned.notices if entry.planned is not None else ():
                listener(notice)
            if entry.place is not None:
                listener(entry.place)
            await _joined(entry)
        except BaseException:
            self._release(entry)
            raise
        finally:
            entry.listeners.remove(listener)
        assert entry.engine is not None
        began = self._clock()
        self._pace.begin(name, began)
        return Lease(entry.engine, functools.partial(self._end_use, entry, began))

    def engines(self) -> list[EngineProcess]:
        """The engines that can take requests."""
        return [entry.engine for entry in self._residents if entry.engine is not None and entry.engine.is_alive]

    def loaded(self) -> list[LoadedModel]:
        """The models in memory, also those that are being loaded or about to leave."""
        now = self._clock()
        return [describe(entry, now) for entry in self._residents]

    def attainable_bytes(self) -> int:
        """The memory that a model could have with all idle ones gone."""
        present = [entry.resident() for entry in self._residents]
        return max(0, self.room.free(self._residents) + pool_rules.leaving_bytes(present, busy_too=False))

    async def unload(self, name: str) -> bool:
        """End the engine of `name` once its running requests have ended, and give its memory back.

        False: it was not loaded.
        """
        self._pins.discard(name)
        found = [entry for entry in (*self._residents, *self._entries.values()) if entry.name == name]
        for entry in found:
            entry.pinned = False
            self._ask_to_leave(entry)
        for entry in found:
            await entry.gone.wait()
        return bool(found)

    async def close(self) -> None:
        """End every engine; running requests end in an error."""
        for entry in list(self._entries.values()):
            entry.leaving = True
            if entry.phase == "waiting" and entry.loading is not None:
                entry.loading.cancel()
        await asyncio.gather(*(self._end(entry) for entry in list(self._residents)))
        for task in list(self._tasks):
            with contextlib.suppress(asyncio.CancelledError, LocalLLMError):
                await task

    # --- loading --------------------------------------------------------------------------------------------------

    def _begin(self, name: str, plan: Planner) -> Entry:
        entry = Entry(name, plan, self.keep_alive_s, pinned=name in self._pins, last_used=self._clock())
        self._entries[name] = entry
        entry.loading = asyncio.create_task(self._bring(entry))
        # Whoever waits sees the error; with nobody left it is nobody's.
        entry.loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        return entry

    async def _bring(self, entry: Entry) -> None:
        """From its place in the queue to a running engine."""
        try:
            if self._turn.locked():
                self._tell_line(entry)
            async with self._turn:
                entry.place = None
                self._start(entry, await self._make_room(entry))
            await self._load(entry)
        except BaseException as exc:
            if isinstance(exc, EngineCrashedError):
                self._crashes.add(entry.name, self._clock(), exc.message)
            self._forget(entry)
            raise
        entry.phase = "ready"
        entry.last_used = self._clock()
        assert entry.engine is not None
        if entry.engine.info is not None:
            self._pace.loaded(entry.name, entry.engine.info.load_s)
        logger.info("%r is loaded", entry.name)
        self._settle(entry)

    def _start(self, entry: Entry, planned: PlannedLoad) -> None:
        entry.planned = planned
        entry.phase = "loading"
        entry.hold()
        entry.engine = self._start_engine(planned.spec, on_exit=lambda error: self._on_exit(entry, error))
        if entry not in self._residents:
            self._residents.append(entry)
        for notice in planned.notices:
            entry.tell(notice)

    async def _load(self, entry: Entry) -> None:
        """Load; for want of memory once more with less context, then once more with the idle models gone."""
        assert entry.planned is not None
        needed_bytes = entry.planned.needed_bytes
        error = await self._run_load(entry)
        if error is not None and (smaller := await self._smaller(entry)) is not None:
            self._start(entry, smaller)
            error = await self._run_load(entry)
        idle = [other for other in self._residents if other.is_idle and not other.pinned]
        if error is not None and idle:
            await asyncio.gather(*(self._end(other) for other in idle))
            self._start(entry, await asyncio.to_thread(entry.plan, max(0, self.room.free(self._residents))))
            error = await self._run_load(entry)
        if error is not None:
            raise OutOfMemoryError(
                f"there is not enough memory to load {entry.name}: {error.message}",
                hint="take a smaller model, less context (--ctx), or end other programs",
                needed_bytes=needed_bytes,
                available_bytes=self.room.available_bytes(),
            ) from error

    async def _run_load(self, entry: Entry) -> LocalLLMError | None:
        """Load once. Returns the error of a load that wanted memory, raises any other."""
        assert entry.engine is not None
        try:
            async for fraction in entry.engine.start():
                entry.tell(Progress("load", entry.name, fraction, 1.0, unit="fraction"))
        except LocalLLMError as exc:
            # The child is gone; close what is left of it.
            await entry.engine.close()
            entry.let_go()
            if pool_rules.is_out_of_memory(exc):
                return exc
            raise
        return None

    async def _smaller(self, entry: Entry) -> PlannedLoad | None:
        """A plan with less context, where that was not asked for in so many tokens."""
        assert entry.planned is not None
        before = entry.planned
        room = before.needed_bytes - before.needed_bytes // _RETRY_SHARE
        try:
            planned = await asyncio.to_thread(entry.plan, room)
        except LocalLLMError:
            return None
        return planned if planned.spec.num_cells < before.spec.num_cells else None

    # --- room -----------------------------------------------------------------------------------------------------

    async def _make_room(self, entry: Entry) -> PlannedLoad:
        """How to load `entry`, once there is room for that. Nobody else comes in meanwhile."""
        asked: list[Entry] = []
        try:
            while True:
                planned, leaving = await self.room.choose(entry, self._residents)
                if not leaving:
                    return planned
                entry.tell(Progress("load", entry.name, 0.0, 1.0, unit="fraction"))
                asked += [other for other in leaving if not other.leaving]
                for other in leaving:
                    self._ask_to_leave(other)
                await self._until_gone(entry, leaving)
        except BaseException:
            # Nobody waits any more: whoever has not left may stay.
            for other in asked:
                other.leaving = other.ending or self._entries.get(other.name) is not other
            raise

    def _tell_line(self, entry: Entry) -> None:
        """Tell who waits for `entry` how many requests wait for models that are loaded before it."""
        before = [other for other in self._entries.values() if other is not entry and other.phase == "waiting"]
        entry.place = Queued(sum(other.num_users for other in before))
        entry.tell(entry.place)

    async def _until_gone(self, entry: Entry, leaving: list[Entry]) -> None:
        """Wait for those who leave; whoever waits for `entry` is told how many requests these still run."""
        gone = [asyncio.ensure_future(other.gone.wait()) for other in leaving]
        try:
            while not all(each.done() for each in gone):
                place = self._pace.place(entry.name, [other.name for other in leaving], self._clock())
                if place != entry.place and place.num_ahead:
                    entry.place = place
                    entry.tell(place)
                await asyncio.wait(gone, timeout=_TELL_S)
        finally:
            entry.place = None
            for each in gone:
                each.cancel()

    # --- leaving --------------------------------------------------------------------------------------------------

    def _end_use(self, entry: Entry, began: float) -> None:
        self._pace.end(entry.name, began, self._clock())
        self._release(entry)

    def _release(self, entry: Entry) -> None:
        entry.num_users -= 1
        entry.last_used = self._clock()
        if entry.num_users:
            return
        if entry.phase == "waiting" and entry.loading is not None and not entry.loading.done():
            # Nobody waits for it any more, and nothing was begun.
            if self._entries.get(entry.name) is entry:
                del self._entries[entry.name]
            entry.loading.cancel()
        else:
            self._settle(entry)

    def _settle(self, entry: Entry) -> None:
        """What becomes of a model that nobody uses?"""
        if not entry.is_idle:
            return
        if entry.leaving or (entry.keep_alive_s == 0 and not entry.pinned):
            self._spawn_end(entry)
        elif entry.keep_alive_s > 0 and not entry.pinned:
            entry.disarm()
            entry.expires_at = self._clock() + entry.keep_alive_s
            entry.timer = self._call_later(entry.keep_alive_s, lambda: self._expire(entry))

    def _expire(self, entry: Entry) -> None:
        if entry.is_idle and not entry.pinned:
            self._spawn_end(entry)

    def _set_pin(self, entry: Entry, pin: bool) -> None:
        entry.pinned = pin
        (self._pins.add if pin else self._pins.discard)(entry.name)

    def _ask_to_leave(self, entry: Entry) -> None:
        entry.leaving = True
        self._settle(entry)

    def _spawn_end(self, entry: Entry) -> None:
        entry.leaving = entry.ending = True
        task = asyncio.ensure_future(self._end(entry))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, entry: Entry) -> None:
        entry.leaving = entry.ending = True
        entry.disarm()
        if entry.engine is not None:
            await entry.engine.close()
        self._forget(entry)

    def _on_exit(self, entry: Entry, error: LocalLLMError) -> None:
        """A child is gone. By itself: the next request starts another, unless that happens too often."""
        if entry.phase == "ready":
            if isinstance(error, EngineCrashedError):
                self._crashes.add(entry.name, self._clock(), error.message)
                how = error.facts.get("signal") or f"status {error.facts.get('exit_status')}"
                logger.info("the engine of %r died: %s", entry.name, how)
            self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        entry.phase = "gone"
        entry.disarm()
        entry.let_go()
        if entry in self._residents:
            self._residents.remove(entry)
            logger.info("%r is unloaded", entry.name)
        if self._entries.get(entry.name) is entry:
            del self._entries[entry.name]
        entry.gone.set()


async def _joined(entry: Entry) -> None:
    """Wait until `entry` is loaded. One impatient waiter does not end the load for the others."""
    assert entry.loading is not None
    try:
        await asyncio.shield(entry.loading)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if entry.loading.cancelled() and task is not None and not task.cancelling():
            raise EngineError("the model was unloaded before it was loaded") from None
        raise


def _on_loop(delay_s: float, then: Callable[[], None]) -> Any:
    return asyncio.get_running_loop().call_later(delay_s, then)
