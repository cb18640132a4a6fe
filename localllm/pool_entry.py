"""A model in the pool: what is loaded for it, who uses it, where it stands. Bookkeeping; decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from localllm.api import LoadedModel, Notice, Queued
from localllm.engine.frames import LoadSpec
from localllm.engine.process import EngineProcess
from localllm.memory import Resident
from localllm.news import News, Report

# "waiting": for its turn and for room. "gone": the child has ended, its memory is free.
Phase = Literal["waiting", "loading", "ready", "gone"]


@dataclass(frozen=True, slots=True)
class PlannedLoad:
    """What to load under a name. `needed_bytes` is what it will take; `hold` is kept open while it is in memory."""

    spec: LoadSpec
    needed_bytes: int
    notices: tuple[Notice, ...]
    hold: AbstractContextManager[None]


# How a model is loaded into so many bytes. Called in a thread; raises OutOfMemoryError where it does not fit.
Planner = Callable[[int], PlannedLoad]


class Timer(Protocol):
    """Something that will happen, unless it is cancelled."""

    def cancel(self) -> object:
        """Let it not happen."""
        ...


@dataclass(eq=False, slots=True)
class Entry:
    """A model in memory, or on its way there.

    `leaving`: it takes no new requests and ends with the last it has. `ending`: its child is told so.
    `expires_at`: when it ends if it stays idle. `place`: what it waits for, as it was last told.
    """

    name: str
    plan: Planner
    keep_alive_s: float
    phase: Phase = "waiting"
    leaving: bool = False
    ending: bool = False
    pinned: bool = False
    planned: PlannedLoad | None = None
    engine: EngineProcess | None = None
    loading: asyncio.Task[None] | None = None
    listeners: list[Report] = field(default_factory=list)
    num_users: int = 0
    place: Queued | None = None
    last_used: float = 0.0
    expires_at: float | None = None
    timer: Timer | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    _held: AbstractContextManager[None] | None = None

    @property
    def takes_requests(self) -> bool:
        """Whether a request for this name may join."""
        if self.leaving or self.phase == "gone":
            return False
        return self.engine is None or self.engine.is_alive

    @property
    def is_idle(self) -> bool:
        """Whether it could end now without hurting anybody."""
        return self.phase == "ready" and self.num_users == 0 and not self.ending

    @property
    def needed_bytes(self) -> int:
        """What it takes in memory."""
        return 0 if self.planned is None else self.planned.needed_bytes

    @property
    def mapped_bytes(self) -> int:
        """What of that the system counts as free all the same: mapped weights, and all of what is not loaded yet."""
        if self.planned is None or self.engine is None or self.engine.info is None:
            return self.needed_bytes
        spec = self.planned.spec
        return self.engine.info.weight_bytes if spec.use_mmap and spec.devices == () else 0

    def tell(self, news: News) -> None:
        """Tell everybody who waits for it."""
        for listener in list(self.listeners):
            listener(news)

    def hold(self) -> None:
        """Keep the model's files where they are."""
        assert self.planned is not None
        assert self._held is None
        self.planned.hold.__enter__()
        self._held = self.planned.hold

    def let_go(self) -> None:
        """Give the files free; a second time does nothing."""
        held, self._held = self._held, None
        if held is not None:
            held.__exit__(None, None, None)

    def disarm(self) -> None:
        """It is in use: it does not expire."""
        self.expires_at = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def resident(self) -> Resident:
        """It as the rules see it."""
        return Resident(self.name, self.needed_bytes, self.last_used, busy=not self.is_idle, pinned=self.pinned)


class Lease:
    """The right to use an engine; a context manager that releases itself."""

    def __init__(self, engine: EngineProcess, release: Callable[[], None]) -> None:
        self.engine = engine
        self._release: Callable[[], None] | None = release

    def __enter__(self) -> EngineProcess:
        return self.engine

    def __exit__(self, *_: object) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()


def describe(entry: Entry, now: float) -> LoadedModel:
    """A model of the pool, as `ps` shows it."""
    assert entry.engine is not None
    assert entry.planned is not None
    spec, info, num_active = entry.planned.spec, entry.engine.info, entry.engine.num_active
    loaded = LoadedModel(
        name=entry.name,
        pid=entry.engine.pid,
        num_ctx=spec.num_ctx,
        num_slots=spec.num_slots,
        num_ctx_train=0,
        device="CPU" if spec.devices == () else "",
        bytes_by_device={"CPU": entry.needed_bytes},
        pinned=entry.pinned,
        state="leaving" if entry.leaving else "loading",
    )
    if info is None:
        return loaded
    return LoadedModel(
        name=entry.name,
        pid=entry.engine.pid,
        num_ctx=info.num_ctx,
        num_slots=info.num_slots,
        num_ctx_train=info.num_ctx_train,
        device=info.device,
        num_active=num_active,
        num_waiting=min(entry.engine.pong.num_waiting, num_active),
        load_s=info.load_s,
        bytes_by_device={info.device: entry.needed_bytes},
        expires_in_s=None if entry.expires_at is None else max(0.0, entry.expires_at - now),
        pinned=entry.pinned,
        state="leaving" if entry.leaving else "ready",
        num_output_tokens=entry.engine.pong.num_output_tokens,
    )
