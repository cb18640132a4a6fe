"""The figures of a conversation, measured: before sending, while an answer comes, after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from localllm_tui.history.history import History
from localllm_tui.history.values import Draft
from localllm_tui.turns import meter as meters
from localllm_tui.turns.context import Room, count_prompt, older_and_recent
from localllm_tui.turns.desk import Desk
from localllm_tui.turns.gauges import Gauges
from localllm_tui.turns.meter import Meter
from localllm_tui.turns.summary import summarise

from localllm.api import Backend, Finished, PromptUsage, Queued, Timings, Usage
from localllm.errors import LocalLLMError
from tests.tui.host import MODEL, Script, ScriptedBackend, Step, run
from tests.tui.turns.watching import Notes


class Bench:
    """A meter over one conversation, with a clock that a test moves."""

    def __init__(self, folder: Path, *scripts: Script) -> None:
        self.backend = ScriptedBackend(*scripts)
        self.history = History(folder / "chat.db")
        self.open = Desk(self._made, self.history, on_over=lambda _: self.meter.show()).new(MODEL)
        self.now = 0.0
        self.seen: list[Gauges] = []
        self.meter = Meter(self._made, self.seen.append, clock=lambda: self.now)
        self.open.watcher = Notes(lambda: self.meter.look_at(self.open, Draft()))

    async def _made(self) -> Backend:
        return self.backend

    def look(self, text: str = "") -> None:
        self.meter.look_at(self.open, Draft(text))


async def until(so: Callable[[], object]) -> None:
    while not so():
        await asyncio.sleep(0.001)


def test_figures_from_a_new_conversation_to_a_finished_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "_DEBOUNCE_S", 0.0)
    monkeypatch.setattr(meters, "_EVERY_S", 0.001)

    async def story() -> None:
        first, second, third = asyncio.Event(), asyncio.Event(), asyncio.Event()
        usage = Usage(num_prompt_tokens=100, num_cached_tokens=40, num_output_tokens=21)
        script: list[Step] = [Queued(3, 9.0), first, PromptUsage(100, 40), "ten chars.", second, "ten chars.", third]
        bench = Bench(tmp_path, [*script, Finished("stop", usage, Timings(decode_s=2.0))])
        meter = bench.meter
        bench.look("hello")
        task = asyncio.ensure_future(meter.run())
        await asyncio.sleep(0.02)
        assert meter.gauges == Gauges()  # nothing is known, nothing was loaded to know it
        assert bench.backend.loaded == {}

        bench.open.send(Draft("hello"))
        await until(lambda: meter.gauges.queued == Queued(3, 9.0))
        await until(lambda: meter.gauges.device == "CPU")
        assert (meter.gauges.num_ctx, meter.gauges.memory_bytes) == (8192, 180_000_000)
        first.set()
        await until(lambda: meter.gauges.num_used == 110)
        assert (meter.gauges.num_cached, meter.gauges.queued, meter.gauges.doing) == (40, None, "answering")
        bench.now = 2.0
        second.set()
        await until(lambda: meter.gauges.num_used == 120)
        assert (meter.gauges.tokens_per_s, meter.gauges.is_live) == (5.0, True)
        third.set()
        await until(lambda: not bench.open.is_busy and not meter.gauges.is_live)
        assert (meter.gauges.num_used, meter.gauges.tokens_per_s, meter.gauges.doing) == (121, 10.0, "")
        assert meter.gauges.first_token_s is not None

        bench.look("more")  # now that it is loaded, what is written counts
        await until(lambda: meter.gauges.num_used == len("hello") + len("ten chars.ten chars.") + len("more"))
        await bench.backend.unload(MODEL)
        await meter.look_at_model()
        assert (meter.gauges.num_ctx, meter.gauges.device) == (None, None)
        task.cancel()
        meter.close()
        bench.history.close()

    run(story(), 20)


def test_the_room_for_a_message_is_known_once_the_model_is_loaded(tmp_path: Path) -> None:
    async def story() -> None:
        bench = Bench(tmp_path, ["A"])
        backend = bench.backend
        assert await count_prompt(backend, bench.open, Draft("hi")) is None
        assert backend.loaded == {}
        backend.num_ctx = 100
        async for _ in backend.load(MODEL):
            pass
        room = await count_prompt(backend, bench.open, Draft("x" * 91))
        assert room == Room(91, 100, 8192)
        assert room.is_near
        assert not room.is_over
        over = await count_prompt(backend, bench.open, Draft("x" * 200))
        assert over is not None
        assert over.is_over
        assert over.num_prompt == 200
        bench.history.close()

    run(story())


def test_older_turns_and_recent_ones(tmp_path: Path) -> None:
    async def story() -> None:
        bench = Bench(tmp_path, ["A"], ["B"], ["C"])
        for text in ("one", "two", "three"):
            bench.open.send(Draft(text))
            await until(lambda: not bench.open.is_busy)
        path = bench.open.path
        assert older_and_recent(path) == (path[:2], path[2:])
        assert older_and_recent(path[:4]) == (path[:2], path[2:4])
        assert older_and_recent(path[:2]) == (path[:2], ())
        assert older_and_recent(()) == ((), ())
        bench.history.close()

    run(story())


def test_a_summary_is_made_in_pieces_that_fit(tmp_path: Path) -> None:
    async def story() -> None:
        bench = Bench(tmp_path, ["A" * 3000])
        bench.open.send(Draft("one"))
        await until(lambda: not bench.open.is_busy)
        bench.backend.scripts = [["first"], ["first and second"]]
        said: list[str] = []
        made = await summarise(bench.backend, MODEL, bench.open.path, 4000, said.append)
        assert made == "first and second"
        assert said == ["first", "first and second"]
        one, two = bench.backend.requests[1:]
        assert "Person: one" in one.messages[0].content
        assert "summary so far:\n\nfirst" in two.messages[0].content
        bench.backend.scripts = [[""]]
        with pytest.raises(LocalLLMError, match="no summary"):
            await summarise(bench.backend, MODEL, bench.open.path[:1], 4000, said.append)
        bench.history.close()

    run(story())
