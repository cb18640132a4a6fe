"""The pool's decisions, over engines and a clock that the test drives. Real children: test_pool_real.py."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from localllm.api import Notice, Progress, Queued
from localllm.engine.frames import EngineInfo, LoadSpec, Pong
from localllm.errors import (
    EngineCrashedError,
    EngineError,
    EngineLoadError,
    LocalLLMError,
    ModelCrashingError,
    OutOfMemoryError,
)
from localllm.news import News
from localllm.pool import EnginePool, Lease, PlannedLoad

GIB = 1 << 30


class Time:
    """A clock with timers that moves when told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, Any]] = []
        self._count = 0

    def __call__(self) -> float:
        return self.now

    def call_later(self, delay_s: float, then: Callable[[], None]) -> Any:
        timer = Timer(then)
        self._count += 1
        heapq.heappush(self._timers, (self.now + delay_s, self._count, timer))
        return timer

    async def pass_by(self, seconds: float) -> None:
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            self.now, _, timer = heapq.heappop(self._timers)
            if timer.then is not None:
                timer.then()
                await settle()
        self.now = until
        await settle()


class Timer:
    def __init__(self, then: Callable[[], None]) -> None:
        self.then: Callable[[], None] | None = then

    def cancel(self) -> None:
        self.then = None


class FakeEngine:
    """Stands in for EngineProcess: loads when the test says so."""

    def __init__(self, world: World, spec: LoadSpec, on_exit: Callable[[LocalLLMError], None]) -> None:
        self.world = world
        self.spec = spec
        self.name = spec.paths[0]
        self.pid = len(world.engines) + 1
        self.info: EngineInfo | None = None
        self.pong = Pong(0.0, 0, 0)
        self.num_active = 0
        self.is_alive = True
        self._on_exit = on_exit

    async def start(self) -> AsyncIterator[float]:
        yield 0.5
        await self.world.may_load.wait()
        await asyncio.sleep(0)
        if not self.is_alive:
            raise EngineError("the engine was unloaded")
        if failures := self.world.failures.get(self.name):
            error = failures.pop(0)
            self.die(error)
            raise error
        self.info = EngineInfo(self.spec.num_ctx, 8192, 1, 100, 1, 1, "fake", "CPU", 0.1, True)

    async def close(self) -> None:
        if self.is_alive:
            await asyncio.sleep(0)
            self.die(EngineError("the engine was unloaded"))

    def die(self, error: LocalLLMError) -> None:
        if self.is_alive:
            self.is_alive = False
            self.world.log.append(f"-{self.name}")
            self.world.taken -= self.world.sizes[self.name]
            self._on_exit(error)


class World:
    """Memory, models of a size each, and what happened: "+a" a load was begun, "-a" an engine ended."""

    def __init__(self, memory: int, sizes: dict[str, int], **options: Any) -> None:
        self.time = Time()
        self.memory = memory
        self.taken = 0
        self.sizes = sizes
        self.log: list[str] = []
        self.held: list[str] = []
        self.engines: list[FakeEngine] = []
        self.failures: dict[str, list[LocalLLMError]] = {}
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.pool = EnginePool(
            lambda: self.memory - self.taken,
            start_engine=self._start,
            clock=self.time,
            call_later=self.time.call_later,
            **options,
        )

    def _start(self, spec: LoadSpec, *, on_exit: Callable[[LocalLLMError], None]) -> Any:
        name = spec.paths[0]
        self.log.append(f"+{name}")
        self.taken += self.sizes[name]
        assert self.taken <= self.memory, f"{name} was loaded into memory that is not there"
        self.engines.append(FakeEngine(self, spec, on_exit))
        return self.engines[-1]

    def plan(self, name: str) -> Callable[[int], PlannedLoad]:
        """A model of a size; one called `auto...` also has a context of 64 tokens a byte, cut to what is free."""

        def plan(available: int) -> PlannedLoad:
            size = self.sizes[name]
            if size > available:
                raise OutOfMemoryError(f"{name} does not fit", needed_bytes=size, available_bytes=available)
            cells_bytes = min(128, available - size) if name.startswith("auto") else 0
            num_ctx = cells_bytes * 64 or 8192
            spec = LoadSpec((name,), num_ctx, num_ctx, 1, 512, 1, "unified")
            return PlannedLoad(spec, size + cells_bytes, (Notice("context", f"{num_ctx}"),), self._hold(name))

        return plan

    @contextlib.contextmanager
    def _hold(self, name: str) -> Iterator[None]:
        self.held.append(name)
        try:
            yield
        finally:
            self.held.remove(name)

    async def get(self, name: str, **wishes: Any) -> Lease:
        return await self.pool.acquire(name, self.plan(name), **wishes)

    async def use(self, name: str, **wishes: Any) -> None:
        with await self.get(name, **wishes):
            pass
        await settle()

    def start(self, name: str, **wishes: Any) -> asyncio.Task[Lease]:
        return asyncio.create_task(self.get(name, **wishes))

    def names(self) -> list[str]:
        return sorted(model.name for model in self.pool.loaded())


async def settle() -> None:
    """Let everything run that can; plans are made in a thread."""
    for _ in range(40):
        await asyncio.sleep(0.0005 if _ % 8 == 0 else 0)


def drive(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    asyncio.run(bounded())


def release(lease: AbstractContextManager[Any]) -> None:
    lease.__exit__(None, None, None)


# --- keep-alive and pins ------------------------------------------------------------------------------------------


def test_an_idle_model_leaves_after_its_time_and_a_use_begins_it_anew() -> None:
    async def main() -> None:
        world = World(10, {"a": 4}, keep_alive_s=300.0)
        await world.use("a")
        (model,) = world.pool.loaded()
        assert model.expires_in_s == 300.0
        await world.time.pass_by(200)
        lease = await world.get("a")
        assert world.pool.loaded()[0].expires_in_s is None
        await world.time.pass_by(1000)
        assert world.names() == ["a"], "a busy model was unloaded"
        release(lease)
        await world.time.pass_by(299)
        assert world.names() == ["a"]
        await world.time.pass_by(2)
        assert world.names() == []
        assert world.log == ["+a", "-a"]
        assert world.held == []

    drive(main)


@pytest.mark.parametrize(("wish", "stays_s"), [(0.0, None), (5.0, 4.0), (-1.0, 1e9), (None, 299.0)])
def test_a_request_says_how_long(wish: float | None, stays_s: float | None) -> None:
    async def main() -> None:
        world = World(10, {"a": 4}, keep_alive_s=300.0)
        await world.use("a", keep_alive_s=wish)
        if stays_s is None:
            assert world.names() == []
            return
        await world.time.pass_by(stays_s)
        assert world.names() == ["a"]
        await world.time.pass_by(2)
        assert world.names() == (["a"] if stays_s == 1e9 else [])

    drive(main)


def test_a_wish_stays_until_another_and_0_waits_for_the_others() -> None:
    async def main() -> None:
        world = World(10, {"a": 4}, keep_alive_s=300.0)
        await world.use("a", keep_alive_s=-1)
        await world.use("a")
        await world.time.pass_by(1e6)
        assert world.names() == ["a"]
        running = await world.get("a")
        await world.use("a", keep_alive_s=0)
        assert world.names() == ["a"], "unloaded under a running request"
        release(running)
        await settle()
        assert world.names() == []

    drive(main)


def test_a_pinned_model_stays_and_makes_no_room() -> None:
    async def main() -> None:
        world = World(10, {"a": 6, "b": 6}, keep_alive_s=300.0)
        await world.use("a", pin=True)
        await world.time.pass_by(1e6)
        assert world.names() == ["a"]
        assert world.pool.loaded()[0].pinned
        with pytest.raises(OutOfMemoryError) as caught:
            await world.get("b")
        assert "a stays because it is pinned" in (caught.value.hint or "")
        assert await world.pool.unload("a")
        await world.use("b")
        assert world.names() == ["b"]

    drive(main)


def test_a_pin_outlives_a_crash() -> None:
    async def main() -> None:
        world = World(10, {"a": 6})
        await world.use("a", pin=True)
        world.engines[0].die(EngineCrashedError("killed"))
        await world.use("a")
        assert world.pool.loaded()[0].pinned

    drive(main)


# --- room ---------------------------------------------------------------------------------------------------------


def test_several_stay_while_they_fit_and_the_longest_unused_leaves() -> None:
    async def main() -> None:
        world = World(10, {"a": 3, "b": 3, "c": 3, "d": 3})
        for name in "abc":
            await world.use(name)
            await world.time.pass_by(1)
        assert world.names() == ["a", "b", "c"]
        await world.use("a")
        await world.time.pass_by(1)
        await world.use("d")
        assert world.names() == ["a", "c", "d"]

    drive(main)


def test_a_budget_bounds_them_whatever_is_free() -> None:
    async def main() -> None:
        world = World(100, {"a": 3, "b": 3}, budget_bytes=5)
        await world.use("a")
        await world.use("b")
        assert world.names() == ["b"]
        with pytest.raises(OutOfMemoryError):
            World(100, {"a": 3}, budget_bytes=2).plan("a")(2)

    drive(main)


def test_memory_that_others_gave_back_is_taken() -> None:
    async def main() -> None:
        world = World(6, {"a": 5, "b": 5})
        await world.use("a")
        world.memory = 20
        await world.use("b")
        assert world.names() == ["a", "b"]
        await world.pool.close()
        assert world.taken == 0

    drive(main)


def test_mapped_weights_are_not_taken_for_free_memory() -> None:
    """The system says that all is free; the weights of the running model are in there."""

    async def main() -> None:
        world = World(10, {"a": 6, "b": 6})
        running = await world.get("a")
        world.engines[0].info = EngineInfo(8192, 8192, 1, 100, 1, 6, "fake", "CPU", 0.1, True)
        world.taken = 0
        b = world.start("b")
        await settle()
        assert not b.done()
        world.taken = 6
        release(running)
        release(await b)
        assert world.log == ["+a", "-a", "+b"]

    drive(main)


def test_a_busy_model_is_never_evicted_and_a_swap_drains() -> None:
    """What is asked of the one that leaves waits behind the one it leaves for."""

    async def main() -> None:
        world = World(10, {"a": 6, "b": 6})
        running = await world.get("a")
        b = world.start("b")
        await settle()
        assert world.pool.loaded()[0].state == "leaving"
        a = world.start("a")
        await settle()
        assert world.log == ["+a"]
        assert not b.done()
        release(running)
        lease_b = await b
        assert world.log == ["+a", "-a", "+b"]
        await settle()
        assert not a.done()
        release(lease_b)
        release(await a)
        assert world.log == ["+a", "-a", "+b", "-b", "+a"]
        assert world.held == ["a"]

    drive(main)


def test_who_waits_for_a_swap_is_told_for_how_many_and_how_long() -> None:
    """The wait is what loads and requests of late took; before these were measured it is not guessed."""

    async def main() -> None:
        world = World(10, {"a": 6, "b": 6})
        told: list[Queued] = []

        def hear(news: News) -> None:
            if isinstance(news, Queued):
                told.append(news)

        running = [await world.get("a"), await world.get("a")]
        b = asyncio.create_task(world.pool.acquire("b", world.plan("b"), hear))
        await settle()
        assert told == [Queued(2)]
        joining = asyncio.create_task(world.pool.acquire("b", world.plan("b"), hear))
        await settle()
        assert told[1:] == [Queued(2)]
        world.time.now = 8.0
        for lease in running:
            release(lease)
        release(await b)
        release(await joining)
        # Both uses of a took 8 s, and a load takes 0.1 s here.
        await world.use("a")
        running = [await world.get("a")]
        world.time.now += 3.0
        told.clear()
        b = asyncio.create_task(world.pool.acquire("b", world.plan("b"), hear))
        await settle()
        (place,) = told
        assert place.num_ahead == 1
        assert place.eta_s == pytest.approx(0.7 * 8.0 + 0.3 * 0.0 - 3.0 + 0.1)
        release(running[0])
        release(await b)

    drive(main)


def test_who_stands_in_line_behind_another_swap_is_told_so() -> None:
    async def main() -> None:
        world = World(10, {"a": 6, "b": 6, "c": 6})
        told: list[News] = []
        running = await world.get("a")
        first = [world.start("b"), world.start("b")]
        await settle()
        last = asyncio.create_task(world.pool.acquire("c", world.plan("c"), told.append))
        await settle()
        assert told == [Queued(2)]
        release(running)
        for waiting in first:
            release(await waiting)
        release(await last)
        told.clear()
        release(await world.pool.acquire("c", world.plan("c"), told.append))
        assert not [news for news in told if isinstance(news, Queued)]

    drive(main)


def test_whoever_gives_up_waiting_lets_the_others_stay() -> None:
    async def main() -> None:
        world = World(10, {"a": 6, "b": 6})
        running = await world.get("a")
        b = world.start("b")
        await settle()
        b.cancel()
        await settle()
        assert world.pool.loaded()[0].state == "ready"
        await world.use("a")
        release(running)
        await settle()
        assert world.log == ["+a"]

    drive(main)


def test_who_asked_first_is_loaded_first() -> None:
    async def main() -> None:
        world = World(10, {"a": 6, "b": 6, "c": 6})
        running = await world.get("a")
        order: list[str] = []

        async def ask(name: str) -> None:
            with await world.get(name):
                order.append(name)

        tasks = []
        for name in "bcbac":
            tasks.append(asyncio.create_task(ask(name)))
            await settle()
        release(running)
        await asyncio.gather(*tasks)
        assert order == ["b", "b", "c", "c", "a"]
        assert [word for word in world.log if word.startswith("+")] == ["+a", "+b", "+c", "+a"]

    drive(main)


def test_a_comfortable_context_beside_a_busy_model_does_not_wait_for_it() -> None:
    async def main() -> None:
        world = World(200, {"a": 60, "auto": 60, "auto tight": 120})
        running = await world.get("a")
        with await world.get("auto") as engine:
            assert engine.spec.num_ctx == 80 * 64
        assert world.names() == ["a", "auto"]
        # With the idle one gone 140 bytes are free: 1,280 tokens are not worth it, so it waits for a.
        tight = world.start("auto tight")
        await settle()
        assert not tight.done()
        release(running)
        with await tight as engine:
            assert engine.spec.num_ctx == 80 * 64
        assert world.names() == ["auto tight"]

    drive(main)


def test_joined_loads_hear_the_same_news() -> None:
    async def main() -> None:
        world = World(10, {"a": 6})
        world.may_load.clear()
        news: list[list[Any]] = [[], [], []]
        tasks = [world.start("a", listener=heard.append) for heard in news]
        await settle()
        late: list[Any] = []
        tasks.append(world.start("a", listener=late.append))
        await settle()
        world.may_load.set()
        for task in tasks:
            release(await task)
        assert world.log == ["+a"]
        assert news[0] == news[1] == news[2]
        assert [type(item) for item in news[0]] == [Notice, Progress]
        assert [type(item) for item in late] == [Notice]

    drive(main)


def test_one_impatient_waiter_does_not_end_the_load() -> None:
    async def main() -> None:
        world = World(10, {"a": 6})
        world.may_load.clear()
        first, second = world.start("a"), world.start("a")
        await settle()
        first.cancel()
        await settle()
        world.may_load.set()
        release(await second)
        assert world.log == ["+a"]

    drive(main)


# --- what goes wrong ----------------------------------------------------------------------------------------------


def test_a_failed_load_leaves_nothing_behind() -> None:
    async def main() -> None:
        world = World(10, {"a": 6})
        world.failures["a"] = [EngineLoadError("unknown architecture")]
        waiting = [world.start("a"), world.start("a")]
        for task in waiting:
            with pytest.raises(EngineLoadError, match="unknown architecture"):
                await task
        assert world.held == []
        assert world.names() == []
        assert world.taken == 0
        await world.use("a")
        assert world.log == ["+a", "-a", "+a"]

    drive(main)


def test_want_of_memory_is_tried_with_less_context_then_alone_then_said() -> None:
    async def main() -> None:
        world = World(300, {"a": 60, "b": 60})
        await world.use("a")
        world.failures["b"] = [EngineLoadError("no memory for a context") for _ in range(3)]
        with pytest.raises(OutOfMemoryError) as caught:
            await world.get("b")
        assert world.log == ["+a", "+b", "-b", "-a", "+b", "-b"]
        assert set(caught.value.facts) == {"needed_bytes", "available_bytes"}
        assert world.held == []
        world.failures.clear()
        world.sizes["b"] = 30
        await world.use("b")

    drive(main)


def test_less_context_is_tried_where_it_was_not_asked_for() -> None:
    async def main() -> None:
        world = World(300, {"auto": 90})
        world.failures["auto"] = [EngineLoadError("no memory for a context")]
        with await world.get("auto") as engine:
            assert 2000 < engine.spec.num_ctx < 8192
        assert world.log == ["+auto", "-auto", "+auto"]
        assert world.held == ["auto"]

    drive(main)


def test_three_crashes_open_the_circuit_and_a_load_closes_it() -> None:
    async def main() -> None:
        world = World(10, {"a": 6, "b": 3})
        for _ in range(3):
            await world.use("a")
            world.engines[-1].die(EngineCrashedError("the engine was killed by SIGSEGV"))
            await world.time.pass_by(10)
        assert world.held == []
        with pytest.raises(ModelCrashingError, match="SIGSEGV"):
            await world.get("a")
        await world.use("b")
        await world.use("a", insist=True)
        assert world.names() == ["a", "b"]
        world.engines[-1].die(EngineCrashedError("again"))
        await world.use("a")

    drive(main)


def test_the_log_says_what_came_and_went(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "localllm.pool")

    async def main() -> None:
        world = World(10, {"a\nb": 6})
        await world.use("a\nb")
        world.engines[0].die(EngineCrashedError("killed", signal="SIGSEGV"))

    drive(main)
    assert [record.getMessage() for record in caplog.records] == [
        "'a\\nb' is loaded",
        "the engine of 'a\\nb' died: SIGSEGV",
        "'a\\nb' is unloaded",
    ]


def test_the_circuit_closes_with_time() -> None:
    async def main() -> None:
        world = World(10, {"a": 6})
        world.failures["a"] = [EngineCrashedError("died", signal="SIGSEGV") for _ in range(3)]
        for _ in range(3):
            with pytest.raises(EngineCrashedError):
                await world.get("a")
        with pytest.raises(ModelCrashingError):
            await world.get("a")
        await world.time.pass_by(301)
        await world.use("a")

    drive(main)


def test_an_unload_waits_for_running_requests_and_takes_no_new_ones() -> None:
    async def main() -> None:
        world = World(20, {"a": 6})
        assert not await world.pool.unload("a")
        running = await world.get("a")
        unloading = asyncio.create_task(world.pool.unload("a"))
        await settle()
        assert not unloading.done()
        await world.use("a")
        assert world.log == ["+a", "+a"], "a request joined a model that leaves"
        release(running)
        assert await unloading
        assert world.log == ["+a", "+a", "-a"]

    drive(main)


def test_closing_ends_what_waits_what_loads_and_what_runs() -> None:
    async def main() -> None:
        world = World(10, {"a": 6, "b": 6, "c": 3})
        await world.get("a")
        world.may_load.clear()
        loading, waiting = world.start("c"), world.start("b")
        await settle()
        closing = asyncio.create_task(world.pool.close())
        await settle()
        world.may_load.set()
        await closing
        for task in (loading, waiting):
            with pytest.raises(EngineError):
                await task
        assert world.held == []
        assert world.taken == 0
        assert world.pool.engines() == []

    drive(main)


def test_fifty_requests_over_three_models_with_room_for_one() -> None:
    """F15: nobody fails, no busy model leaves, and each drained batch costs one swap at most."""

    async def main() -> None:
        world = World(10, {"a": 6, "b": 6, "c": 6})
        draw = random.Random(7)
        waits: list[float] = []
        began = asyncio.get_running_loop().time

        async def ask(name: str) -> None:
            since = began()
            with await world.get(name) as engine:
                waits.append(began() - since)
                for _ in range(draw.randrange(5)):
                    await asyncio.sleep(0)
                    assert engine.is_alive, "a busy model was ended"

        names = [draw.choice("abc") for _ in range(50)]
        await asyncio.gather(*(ask(name) for name in names))
        assert len(waits) == 50
        assert sum(word.startswith("+") for word in world.log) <= 3
        # The same, arriving over time.
        tasks = []
        for name in names:
            tasks.append(asyncio.create_task(ask(name)))
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)
        assert len(waits) == 100
        assert len(world.held) == len(world.names()) == 1

    drive(main)
