"""One answer: written down while it comes, and every way it can end."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from localllm_tui.history.history import History
from localllm_tui.history.values import Node
from localllm_tui.turns import turn as turns
from localllm_tui.turns.turn import Turn

from localllm.api import ChatRequest, Control, Finished, Message, Notice, ReasoningDelta, ToolCall, ToolCallEvent, Usage
from localllm.errors import EngineCrashedError
from tests.tui.host import MODEL, Script, ScriptedBackend, run
from tests.tui.turns.watching import Notes


class Told(ScriptedBackend):
    """One that ends an answer in order when it is asked to."""

    def __init__(self, *scripts: Script, gate: asyncio.Event) -> None:
        super().__init__(*scripts)
        self.gate = gate

    async def control(self, request_id: str, control: Control) -> bool:
        self.gate.set()
        return await super().control(request_id, control) or True


def turn_of(history: History, backend: ScriptedBackend, notes: Notes, node: Node | None = None) -> Turn:
    if node is None:
        conversation = history.new(model=MODEL)
        asked = history.add(conversation.id, None, "user", "hi")
        node = history.add(conversation.id, asked.id, "assistant", state="streaming")
    request = ChatRequest(model=MODEL, messages=(Message("user", "hi"),), request_id="mine")
    return Turn(backend, history, request, node, notes)


def test_an_answer_is_kept_with_its_figures(tmp_path: Path) -> None:
    async def story() -> None:
        history, notes = History(tmp_path / "chat.db"), Notes()
        call = ToolCallEvent(ToolCall("1", "add", '{"a": 1}'))
        backend = ScriptedBackend([ReasoningDelta("hm"), "yes ", Notice("n", "1 turn was dropped"), "no", call])
        turn = turn_of(history, backend, notes)
        node = await turn.run()
        assert node == history.node(node.id)
        assert (node.content, node.reasoning, node.state) == ("yes no", "hm", "complete")
        assert node.tool_calls == (call.call,)
        assert node.error == "1 turn was dropped"
        assert node.stats is not None
        assert node.stats.num_output_tokens == 6
        assert node.stats.decode_s == 0.5
        assert notes.told == ["ended complete"]
        history.close()

    run(story())


def test_what_came_is_on_disk_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SAVE_EVERY_S", 0.01)

    async def story() -> None:
        history, gate = History(tmp_path / "chat.db"), asyncio.Event()
        turn = turn_of(history, ScriptedBackend(["half", gate]), Notes())
        task = asyncio.ensure_future(turn.run())
        with sqlite3.connect(tmp_path / "chat.db") as other:
            while other.execute("SELECT content, state FROM nodes WHERE role = 'assistant'").fetchone()[0] != "half":
                await asyncio.sleep(0.005)
        assert turn.node().state == "streaming"
        gate.set()
        assert (await task).state == "complete"
        other.close()
        history.close()

    run(story(), 10)


def test_a_stop_in_order_keeps_the_figures(tmp_path: Path) -> None:
    async def story() -> None:
        history, gate, notes = History(tmp_path / "chat.db"), asyncio.Event(), Notes()
        backend = Told(["half", gate, Finished("abort", Usage(9, 3, 4))], gate=gate)
        turn = turn_of(history, backend, notes)
        task = asyncio.ensure_future(turn.run())
        while not notes.events[-1:] or turn.answer.content != "half":
            await asyncio.sleep(0)
        await turn.stop()
        node = await task
        assert (node.content, node.state, node.error) == ("half", "stopped", None)
        assert node.stats is not None
        assert node.stats.num_output_tokens == 4
        assert backend.controls == [("mine", "stop")]
        assert backend.ended == []
        history.close()

    run(story())


def test_a_stop_before_a_word_closes_the_stream_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        history, gate, notes = History(tmp_path / "chat.db"), asyncio.Event(), Notes()
        backend = ScriptedBackend([gate])
        turn = turn_of(history, backend, notes)
        task = asyncio.ensure_future(turn.run())
        while not backend.requests:
            await asyncio.sleep(0)
        await asyncio.gather(turn.stop(), turn.stop())
        node = await task
        assert (node.content, node.state) == ("", "stopped")
        assert backend.ended == ["mine"]
        assert backend.controls == []
        history.close()

    run(story())


def test_a_crash_in_the_middle_keeps_what_came_and_says_why(tmp_path: Path) -> None:
    async def story() -> None:
        history, notes = History(tmp_path / "chat.db"), Notes()
        turn = turn_of(
            history, ScriptedBackend(["half", EngineCrashedError("the engine died", hint="ask again")]), notes
        )
        node = await turn.run()
        assert (node.content, node.state, node.error) == ("half", "failed", "the engine died\nask again")
        assert isinstance(turn.error, EngineCrashedError)
        history.close()

    run(story())


def test_an_answer_that_was_stopped_is_gone_on_with(tmp_path: Path) -> None:
    async def story() -> None:
        history, notes = History(tmp_path / "chat.db"), Notes()
        conversation = history.new(model=MODEL)
        asked = history.add(conversation.id, None, "user", "hi")
        before = history.add(conversation.id, asked.id, "assistant", "one, ", state="stopped")
        node = await turn_of(history, ScriptedBackend(["two"]), notes, before).run()
        assert (node.id, node.content, node.state) == (before.id, "one, two", "complete")
        history.close()

    run(story())


def test_a_disk_that_is_full_is_said_once_and_the_answer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "SAVE_EVERY_S", 0.0)

    async def story() -> None:
        history, notes = History(tmp_path / "chat.db"), Notes()
        first, second = asyncio.Event(), asyncio.Event()
        turn = turn_of(history, ScriptedBackend(["a" * 100_000, first, "b" * 100_000, second, "c"]), notes)
        with history._db.write() as connection:
            num_pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {num_pages}")
        task = asyncio.ensure_future(turn.run())
        while not notes.errors:
            await asyncio.sleep(0)
        assert "no room left" in notes.errors[0].message
        first.set()
        while "b" not in turn.answer.content:
            await asyncio.sleep(0)
        with history._db.write() as connection:
            connection.execute("PRAGMA max_page_count = 1000000")
        second.set()
        node = await task
        assert len(notes.errors) == 1
        assert history.node(node.id).content == "a" * 100_000 + "b" * 100_000 + "c"
        history.close()

    run(story())
