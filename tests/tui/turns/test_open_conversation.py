"""A conversation that is open: sent, edited, answered again, branched, stopped, gone on with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from localllm_tui.history.history import History
from localllm_tui.history.values import Draft
from localllm_tui.turns.desk import Desk
from localllm_tui.turns.open_conversation import OpenConversation

from localllm.api import Backend
from localllm.errors import DaemonUnreachableError, EngineCrashedError, InvalidRequestError
from tests.tui.host import MODEL, Script, ScriptedBackend, run
from tests.tui.turns.watching import Notes


class Table:
    """A desk with one conversation on it."""

    def __init__(self, folder: Path, backend: ScriptedBackend) -> None:
        self.backend = backend
        self.history = History(folder / "chat.db")
        self.over: list[OpenConversation] = []
        self.made: Callable[[], Awaitable[Backend]] = self._made
        self.desk = Desk(self.backend_now, self.history, on_over=self.over.append)
        self.open = self.desk.new(MODEL)
        self.notes = Notes()
        self.open.watcher = self.notes

    async def _made(self) -> Backend:
        return self.backend

    async def backend_now(self) -> Backend:
        return await self.made()

    async def until(self, so: Callable[[], object]) -> None:
        while not so():
            await asyncio.sleep(0)

    async def say(self, text: str, edits: int | None = None) -> None:
        """Send and wait for the end of the answer."""
        self.open.send(Draft(text, edits=edits))
        await self.rest()

    async def rest(self) -> None:
        await self.until(lambda: not self.open.is_busy)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def said(self) -> list[str]:
        return [node.content for node in self.open.path]


@asynccontextmanager
async def table(folder: Path, *scripts: Script) -> AsyncIterator[Table]:
    made = Table(folder, ScriptedBackend(*scripts))
    yield made
    await made.desk.close()
    made.history.close()


def test_it_comes_into_being_with_its_first_message(tmp_path: Path) -> None:
    async def story() -> None:
        async with table(tmp_path, ["hello"]) as at:
            assert at.open.id == 0
            assert at.history.count() == 0
            at.open.change(system="be brief")
            at.backend.title = "A greeting"
            await at.say("hi there")
            assert at.said() == ["hi there", "hello"]
            (kept,) = at.history.conversations()
            assert (kept.id, kept.system, kept.model) == (at.open.id, "be brief", MODEL)
            assert at.history.last_open() == kept.id
            await at.until(lambda: at.open.conversation.titled_by == "model")
            assert at.history.conversation(kept.id).title == "A greeting"
            (asked,) = at.backend.requests
            assert [message.content for message in asked.messages] == ["be brief", "hi there"]
            assert at.over == [at.open]

    run(story())


def test_a_title_of_a_person_stays_and_one_under_way_makes_room(tmp_path: Path) -> None:
    async def story() -> None:
        async with table(tmp_path, ["one"], ["two"]) as at:
            await at.say("first")
            assert at.open.conversation.title == "first"
            at.open.change(title="Mine", titled_by="person")
            at.backend.title = "The model's"
            await at.say("second")
            await asyncio.sleep(0.01)
            assert at.history.conversation(at.open.id).title == "Mine"
            assert len(at.backend.asides) == 1

    run(story())


def test_an_edit_makes_a_sibling_and_both_are_walked(tmp_path: Path) -> None:
    async def story() -> None:
        async with table(tmp_path, ["A"], ["B"], ["C"]) as at:
            await at.say("one")
            first = at.open.path[0]
            await at.say("more")
            await at.say("two", edits=first.id)
            assert at.said() == ["two", "C"]
            assert at.open.place(at.open.path[0]) == (2, 2)
            assert at.open.walk(at.open.path[0], -1)
            assert at.said() == ["one", "A", "more", "B"]
            assert not at.open.walk(at.open.path[0], -1)
            assert at.open.walk(at.open.path[0], 1)
            assert at.said() == ["two", "C"]
            assert at.history.conversation(at.open.id).leaf == at.open.path[-1].id

    run(story())


def test_an_answer_may_be_edited_without_asking_the_model(tmp_path: Path) -> None:
    async def story() -> None:
        async with table(tmp_path, ["A"]) as at:
            await at.say("one")
            await at.say("better", edits=at.open.path[1].id)
            assert [(node.role, node.content) for node in at.open.path] == [("user", "one"), ("assistant", "better")]
            assert at.open.path[1].model == MODEL
            assert len(at.backend.requests) == 1

    run(story())


def test_another_answer_stands_beside_the_first_and_names_its_model(tmp_path: Path) -> None:
    async def story() -> None:
        async with table(tmp_path, ["A"], ["B"]) as at:
            await at.say("one")
            at.open.change(model="qwen3:0.6b")
            at.open.answer_again(at.open.path[-1])
            await at.rest()
            assert at.said() == ["one", "B"]
            assert at.open.path[-1].model == "qwen3:0.6b"
            assert at.open.place(at.open.path[-1]) == (2, 2)
            assert at.history.conversation(at.open.id).model == "qwen3:0.6b"
            at.open.walk(at.open.path[-1], -1)
            assert at.open.path[-1].model == MODEL

    run(story())


def test_an_answer_that_failed_without_a_word_is_written_anew(tmp_path: Path) -> None:
    async def story() -> None:
        died = EngineCrashedError("the engine died")
        async with table(tmp_path, [died], ["half", died], ["whole"], ["again"]) as at:
            await at.say("one")
            failed = at.open.path[-1]
            assert failed.state == "failed"
            at.open.answer_again(failed)
            await at.rest()
            assert at.open.path[-1].id == failed.id
            assert (at.open.path[-1].content, at.open.path[-1].state) == ("half", "failed")
            at.open.answer_again(at.open.path[-1])
            await at.rest()
            assert at.open.place(at.open.path[-1]) == (2, 2)
            assert at.open.path[-1].content == "whole"

    run(story())


def test_a_stopped_answer_is_gone_on_with_as_a_whole(tmp_path: Path) -> None:
    async def story() -> None:
        async with table(tmp_path, ["half", asyncio.Event()], [" and half"]) as at:
            at.open.send(Draft("one"))
            await at.until(lambda: at.open.now()[-1:] and at.open.now()[-1].content == "half")
            assert at.open.path[-1].content == ""
            await at.open.stop()
            assert at.open.path[-1].state == "stopped"
            at.open.go_on()
            await at.rest()
            assert at.said() == ["one", "half and half"]
            assert [(m.role, m.content) for m in at.backend.requests[1].messages] == [
                ("user", "one"),
                ("assistant", "half"),
            ]
            with pytest.raises(InvalidRequestError, match="the answer is whole"):
                at.open.go_on()

    run(story())


def test_a_message_waits_for_the_end_of_the_answer(tmp_path: Path) -> None:
    async def story() -> None:
        gate = asyncio.Event()
        async with table(tmp_path, ["A", gate], ["B"]) as at:
            at.open.send(Draft("one"))
            at.open.send(Draft("two"))
            with pytest.raises(InvalidRequestError, match="waits already"):
                at.open.send(Draft("three"))
            assert at.open.take_back() == Draft("two")
            at.open.send(Draft("three"))
            gate.set()
            await at.until(lambda: at.open.waiting is None)
            await at.rest()
            assert at.said() == ["one", "A", "three", "B"]

    run(story())


def test_a_stop_does_not_send_what_waits(tmp_path: Path) -> None:
    async def story() -> None:
        async with table(tmp_path, ["A", asyncio.Event()]) as at:
            at.open.send(Draft("one"))
            await at.until(lambda: at.backend.requests)
            at.open.send(Draft("two"))
            await at.open.stop()
            await at.rest()
            assert at.open.waiting == Draft("two")
            assert len(at.backend.requests) == 1

    run(story())


def test_a_backend_that_is_not_there_is_said_and_asked_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with table(tmp_path, ["A"]) as at:
            works, at.made = at.made, _gone
            await at.say("one")
            assert [error.message for error in at.notes.errors] == ["no daemon answers"]
            assert at.said() == ["one"]
            at.made = works
            at.open.answer_again(at.open.path[-1])
            await at.rest()
            assert at.said() == ["one", "A"]

    run(story())


def test_a_branch_is_a_conversation_of_its_own(tmp_path: Path) -> None:
    async def story() -> None:
        async with table(tmp_path, ["A"], ["B"]) as at:
            await at.say("one")
            await at.say("two")
            made = at.open.branch(at.open.path[1])
            other = at.desk.open(made.id, "unused")
            assert [node.content for node in other.path] == ["one", "A"]
            assert other.wishes.model == MODEL
            assert at.said() == ["one", "A", "two", "B"]

    run(story())


def test_a_summary_begins_another_branch_and_nothing_is_lost(tmp_path: Path) -> None:
    async def story() -> None:
        async with table(tmp_path, ["A"], ["B"], ["C"]) as at:
            at.open.change(system="be brief")
            await at.say("one")
            await at.say("two")
            before = at.open.path
            at.open.begin_with("in short: one", before[2:])
            await at.say("three")
            assert at.said() == ["in short: one", "two", "B", "three", "C"]
            assert [message.content for message in at.backend.requests[-1].messages] == [
                "be brief\n\nin short: one",
                "two",
                "B",
                "three",
            ]
            at.open.walk(at.open.path[0], -1)
            assert at.open.path == before

    run(story())


def test_it_goes_on_while_another_one_is_looked_at(tmp_path: Path) -> None:
    async def story() -> None:
        gate = asyncio.Event()
        async with table(tmp_path, ["A", gate, "Z"]) as at:
            at.open.send(Draft("one"))
            await at.until(lambda: at.open.now()[-1].content == "A")
            at.open.watcher = None
            assert at.desk.open(at.open.id, MODEL) is at.open
            gate.set()
            await at.rest()
            assert at.over == [at.open]
            again = at.desk.open(at.open.id, MODEL)
            assert again is not at.open
            assert again.path[-1].content == "AZ"

    run(story())


def test_closing_keeps_what_came(tmp_path: Path) -> None:
    async def story() -> None:
        async with table(tmp_path, ["half", asyncio.Event()]) as at:
            at.open.send(Draft("one"))
            await at.until(lambda: at.open.now()[-1].content == "half")
            await at.desk.close()
            node = at.history.node(at.open.path[-1].id)
            assert (node.content, node.state) == ("half", "stopped")
            assert at.over == []

    run(story())


async def _gone() -> Backend:
    raise DaemonUnreachableError("no daemon answers")
