"""The model's word: answers, the calls between them, and who may say no."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from localllm_tui.history.history import History
from localllm_tui.history.values import Node
from localllm_tui.tools.values import Extent, ToolResult
from localllm_tui.turns import reply as replies
from localllm_tui.turns.reply import REFUSED, Reply, Wishes

from localllm.api import ToolCall, ToolCallEvent, ToolSpec
from tests.tui.host import MODEL, Script, ScriptedBackend, run
from tests.tui.turns.watching import Notes

ADD = ToolCallEvent(ToolCall("1", "add", '{"a": 1}'))
SUB = ToolCallEvent(ToolCall("2", "sub", '{"b": 2}'))


class Box:
    """Tools add and sub; what they gave and what was allowed."""

    def __init__(self, *, asks: bool) -> None:
        self.asks = asks
        self.allowed: list[tuple[str, Extent]] = []
        self.called: list[str] = []
        self.gate: asyncio.Event | None = None

    def specs(self, conversation: int) -> tuple[ToolSpec, ...]:  # noqa: ARG002
        return ToolSpec("add"), ToolSpec("sub")

    def needs_approval(self, conversation: int, name: str) -> bool:  # noqa: ARG002
        return self.asks and (name, "chat") not in self.allowed

    def approve(self, conversation: int, name: str, extent: Extent) -> None:  # noqa: ARG002
        self.allowed.append((name, extent))

    async def call(self, call: ToolCall) -> ToolResult:
        self.called.append(call.name)
        if self.gate is not None:
            await self.gate.wait()
        return ToolResult(f"{call.name} is done", is_error=call.name not in ("add", "sub"))


class Bench:
    def __init__(self, folder: Path, tools: Box | None, *scripts: Script) -> None:
        self.history = History(folder / "chat.db")
        self.backend = ScriptedBackend(*scripts)
        self.notes = Notes()
        self.conversation = self.history.new(model=MODEL)
        self.asked = self.history.add(self.conversation.id, None, "user", "go")
        self.reply = Reply(self.backend, self.history, self.conversation, Wishes(MODEL), self.notes, tools=tools)

    def begin(self) -> asyncio.Task[Node]:
        return asyncio.ensure_future(self.reply.run(self.asked))

    def contents(self, last: Node) -> list[tuple[str, str]]:
        return [(node.role, node.content) for node in self.history.path(last.id)]


async def until(so: Callable[[], object]) -> None:
    while not so():
        await asyncio.sleep(0)


def test_calls_are_run_and_their_results_answered(tmp_path: Path) -> None:
    async def story() -> None:
        box = Box(asks=False)
        bench = Bench(tmp_path, box, ["let me ", ADD, SUB], ["so it is"])
        last = await bench.begin()
        assert bench.contents(last) == [
            ("user", "go"),
            ("assistant", "let me "),
            ("tool", "add is done"),
            ("tool", "sub is done"),
            ("assistant", "so it is"),
        ]
        assert bench.reply.ending == "person"
        assert [tool.name for tool in bench.backend.requests[0].tools] == ["add", "sub"]
        assert [m.tool_call_id for m in bench.backend.requests[1].messages[-2:]] == ["1", "2"]
        assert "add running" in bench.notes.told
        assert "add done" in bench.notes.told
        bench.history.close()

    run(story())


def test_a_person_is_asked_for_all_calls_at_once_and_may_refuse(tmp_path: Path) -> None:
    async def story() -> None:
        box = Box(asks=True)
        bench = Bench(tmp_path, box, [ADD, SUB], ["well"])
        task = bench.begin()
        await until(lambda: "sub asking" in bench.notes.told)
        bench.reply.answer_call("2", False, "once")
        await asyncio.sleep(0)
        assert box.called == []
        bench.reply.answer_call("1", True, "chat")
        bench.reply.answer_call("nonsense", True, "chat")
        last = await task
        assert [content for role, content in bench.contents(last) if role == "tool"] == ["add is done", REFUSED]
        assert box.allowed == [("add", "chat")]
        assert box.called == ["add"]
        bench.history.close()

    run(story())


def test_an_allowance_for_the_chat_holds_for_the_next_call_of_the_same_answer(tmp_path: Path) -> None:
    async def story() -> None:
        box = Box(asks=True)
        again = ToolCallEvent(ToolCall("9", "add"))
        bench = Bench(tmp_path, box, [ADD, again], ["well"])
        task = bench.begin()
        await until(lambda: bench.notes.told.count("add asking") == 2)
        bench.reply.answer_call("1", True, "chat")
        await task
        assert box.called == ["add", "add"]
        bench.history.close()

    run(story())


def test_a_call_of_no_tool_is_answered_without_asking(tmp_path: Path) -> None:
    async def story() -> None:
        unknown = ToolCallEvent(ToolCall("1", "fly"))
        bench = Bench(tmp_path, Box(asks=True), [unknown], ["well"])
        last = await bench.begin()
        assert bench.history.path(last.id)[2].state == "failed"
        other = Bench(tmp_path / "none", None, [unknown], ["well"])
        last = await other.begin()
        assert other.contents(last)[2] == ("tool", "there are no tools here")
        bench.history.close()
        other.history.close()

    run(story())


def test_rows_of_calls_end_where_a_person_should_look(tmp_path: Path) -> None:
    async def story() -> None:
        bench = Bench(tmp_path, Box(asks=False), *[[ADD]] * (replies.MAX_ROUNDS + 1))
        last = await bench.begin()
        assert bench.reply.ending == "rounds"
        assert last.role == "tool"
        assert len(bench.backend.requests) == replies.MAX_ROUNDS
        bench.history.close()

    run(story())


def test_a_stop_while_asking_and_while_a_tool_runs(tmp_path: Path) -> None:
    async def story() -> None:
        bench = Bench(tmp_path, Box(asks=True), [ADD])
        task = bench.begin()
        await until(lambda: "add asking" in bench.notes.told)
        assert [call.name for _, call in bench.reply.asking()] == ["add"]
        await bench.reply.stop()
        last = await task
        assert (bench.reply.ending, last.role) == ("stopped", "assistant")
        assert bench.notes.told[-1] == "add failed"
        assert bench.reply.asking() == ()
        again = Reply(
            bench.backend, bench.history, bench.conversation, Wishes(MODEL), bench.notes, tools=Box(asks=False)
        )
        end = await again.run(last)
        assert [role for role, _ in bench.contents(end)] == ["user", "assistant", "tool", "assistant"]
        bench.history.close()
        box = Box(asks=False)
        box.gate = asyncio.Event()
        busy = Bench(tmp_path / "busy", box, [ADD])
        task = busy.begin()
        await until(lambda: box.called)
        await busy.reply.stop()
        last = await task
        assert (busy.reply.ending, last.role) == ("stopped", "assistant")
        busy.history.close()

    run(story())
