"""The tree screen: what is drawn, where keys lead, and what comes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from localllm_tui.history.history import History
from localllm_tui.history.values import Bundle, Conversation, Node
from localllm_tui.options import ChatSettings
from localllm_tui.screens.compare import CompareScreen
from localllm_tui.screens.tree import Chosen, TreeScreen
from localllm_tui.widgets.tree_view import TreeView
from textual.pilot import Pilot

from tests.tui.host import chat_host, run, wait_until
from tests.tui.screens.dressed import NOTHING, Dressed


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    """A conversation of two forks: 1 asks, 2 and 3 answer; below 3, 4 asks and 5 answers."""
    history = History(tmp_path / "chat.db")
    id_ = history.new(model="m", title="Of trees \x1b[31m").id
    ask = history.add(id_, None, "user", "What is a tree?").id
    history.add(id_, ask, "assistant", "Wood \x1b[2J with leaves", model="first:1b", state="stopped")
    other = history.add(id_, ask, "assistant", "A graph without cycles", model="second:2b").id
    again = history.add(id_, other, "user", "[bold]Draw[/bold] it").id
    history.add(id_, again, "assistant", "o-o", model="second:2b")
    yield history
    history.close()


def lines(view: TreeView) -> list[str]:
    """What is seen."""
    shown = (view.render_line(y).text.rstrip() for y in range(view.size.height))
    return [line for line in shown if line]


async def loaded(pilot: Pilot[int]) -> TreeView:
    """The tree, once it is there."""
    view = pilot.app.screen.query_one(TreeView)
    await wait_until(pilot, lambda: view.rows)
    return view


def test_what_is_drawn_and_where_keys_lead(history: History) -> None:
    async def story() -> None:
        app = Dressed(TreeScreen(history, 1))
        async with app.run_test(size=(100, 20)) as pilot:
            view = await loaded(pilot)
            shown = lines(view)
            assert [line.split("  ")[0] for line in shown] == [
                "● You",
                "├─○ first:1b",
                "● second:2b",
                "● You",
                "● second:2b",
            ]
            # Orders to terminals are shown, and markup of others is text.
            assert "(stopped) Wood \\x1b[2J with" in shown[1]
            assert "[bold]Draw[/bold] it" in shown[3]
            assert "just now" in shown[0]
            assert view.node is not None
            assert view.node.id == 5
            keys = ("home", "down", "left", "right", "end", "up", "pageup", "pagedown", "k", "j")
            visited = []
            for key in keys:
                await pilot.press(key)
                visited.append(view.node.id)
            assert visited == [1, 2, 1, 1, 5, 4, 1, 5, 4, 5]
            await pilot.click(TreeView, offset=(3, 1))
            assert view.node.id == 2
            await pilot.press("enter")
            assert app.result == Chosen(1, 2)

    run(story())


def test_a_branch_of_its_own_and_the_way_back(history: History) -> None:
    async def story() -> None:
        app = Dressed(TreeScreen(history, 1, cursor=3))
        async with app.run_test(size=(100, 20)) as pilot:
            await loaded(pilot)
            await pilot.press("b")
            assert app.result.conversation == 2
            assert [node.content for node in history.path(app.result.leaf)] == [
                "What is a tree?",
                "A graph without cycles",
            ]
        app = Dressed(TreeScreen(history, 1))
        async with app.run_test(size=(100, 20)) as pilot:
            await loaded(pilot)
            await pilot.press("escape")
            assert app.result is None

    run(story())


def test_two_marks_are_compared_and_one_is_kept(history: History) -> None:
    async def story() -> None:
        app = Dressed(TreeScreen(history, 1))
        async with app.run_test(size=(100, 20)) as pilot:
            view = await loaded(pilot)
            await pilot.press("c")
            assert isinstance(app.screen, TreeScreen)  # the open branch with itself: said, not shown
            await pilot.press("space", "home", "space", "space", "down", "space")
            assert view.marked == (5, 2)
            assert lines(view)[1].startswith("├─◆")
            await pilot.press("c")
            await wait_until(pilot, lambda: isinstance(app.screen, CompareScreen))
            await pilot.press("2")
            await wait_until(pilot, lambda: app.result is not NOTHING)
            assert app.result == Chosen(1, 2)

    run(story())


def test_any_width_and_what_is_gone(history: History) -> None:
    async def story() -> None:
        for columns in (8, 20, 60):
            app = Dressed(TreeScreen(history, 1))
            async with app.run_test(size=(columns, 6)) as pilot:
                view = await loaded(pilot)
                assert all(view.render_line(y).cell_length <= columns for y in range(5))
                await pilot.press("space", "home")
        app = Dressed(TreeScreen(history, 1), ChatSettings(plain=True))
        async with app.run_test(size=(60, 8)) as pilot:
            view = await loaded(pilot)
            assert [line.split("  ")[0] for line in lines(view)][:3] == ["open You", "+-- first:1b", "open second:2b"]
            assert not any(ord(char) > 127 for char in "".join(lines(view)).replace("…", ""))
        history.delete(1)
        app = Dressed(TreeScreen(history, 1))
        async with app.run_test(size=(80, 10)) as pilot:
            await wait_until(pilot, lambda: len(app._notifications))
            await pilot.press("enter", "c", "b", "down", "space", "escape")
            assert app.result is None

    run(story())


def test_from_the_chat_to_another_branch_and_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, ["First answer"], ["Second answer"]) as host:
            await host.pilot.press("f5")  # nothing to see yet: said, not shown
            assert host.app.screen is host.screen
            await host.say("hello")
            await host.until(lambda: not host.screen.open.is_busy and host.screen.open.path)
            await host.pilot.press("ctrl+r")
            await host.until(lambda: host.screen.open.path[-1].content == "Second answer")
            await host.until(lambda: not host.screen.open.is_busy)

            await host.pilot.press("f5")
            await host.until(lambda: isinstance(host.app.screen, TreeScreen))
            view = await loaded(host.pilot)
            assert [row.guide for row in view.rows] == ["", "├─", ""]
            await host.pilot.press("up", "enter")
            await host.until(lambda: host.screen.open.path[-1].content == "First answer")
            assert host.app.screen is host.screen
            assert "First answer" in host.shown()
            assert "Second answer" not in host.shown()

            await host.screen.run_command("tree")
            await host.until(lambda: isinstance(host.app.screen, TreeScreen))
            await loaded(host.pilot)
            await host.pilot.press("b")
            await host.until(lambda: host.screen.open.id == 2)
            assert len(host.history.tree(1)) == 3
            assert len(host.history.tree(2)) == 2

    run(story())


def test_thousands_of_turns(tmp_path: Path) -> None:
    history = History(tmp_path / "chat.db")
    size = 5000
    nodes = tuple(
        Node(at, 1, at - 1 or None if at % 7 else max(1, at - 5), "user", f"turn {at}", created=float(at))
        for at in range(1, size + 1)
    )
    (id_,) = history.take_in([Bundle("u", Conversation(1, title="big", leaf=size), nodes)]).conversations

    async def story() -> None:
        app = Dressed(TreeScreen(history, id_))
        async with app.run_test(size=(100, 30)) as pilot:
            view = await loaded(pilot)
            assert len(view.rows) == size
            started = time.process_time()
            for _ in range(20):
                view.action_page(-1)
                await pilot.pause(0)
            # About 12 ms each where it was measured; without drawing only what is in sight it would be seconds.
            assert time.process_time() - started < 4
            assert view.cursor < size - 500

    run(story())
    history.close()
