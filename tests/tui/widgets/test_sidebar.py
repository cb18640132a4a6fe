"""The list of conversations: groups, cursor, filter, keys, mouse; alone in an app."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from localllm_tui.history.values import Conversation
from localllm_tui.look.dressed import DressedApp
from localllm_tui.options import ChatSettings
from localllm_tui.widgets.conversation_list import ConversationList
from localllm_tui.widgets.conversation_rows import Folder, Heading, SearchRow, age, arrange
from localllm_tui.widgets.sidebar import Sidebar
from textual.app import ComposeResult
from textual.message import Message
from textual.pilot import Pilot

from tests.tui.host import wait_until

NOW = datetime.datetime(2026, 11, 21, 12, 0)
DAY = 86_400.0


def conversation(id_: int, title: str, ago_s: float, **fields: Any) -> Conversation:
    """One that was updated so long before NOW."""
    return Conversation(id_, title=title, model="smollm2:135m", updated=NOW.timestamp() - ago_s, **fields)


SOME = (
    conversation(1, "Pinned one", 9 * DAY, is_pinned=True, folder="work"),
    conversation(2, "Marmalade", 60),
    conversation(3, "Lighthouse", DAY),
    conversation(4, "Regex", 2 * DAY, folder="work"),
    conversation(5, "Haiku \x1b[31m", 3 * DAY),
    conversation(6, "October", 45 * DAY),
    conversation(7, "Old", 400 * DAY),
)


class Alone(DressedApp):
    """An app with a sidebar and what it said."""

    CSS = "Sidebar { width: 100%; }"

    def __init__(self, settings: ChatSettings | None = None) -> None:
        super().__init__(settings or ChatSettings())
        self.said: list[Message] = []

    def compose(self) -> ComposeResult:
        yield Sidebar()

    def on_conversation_list_opened(self, event: Sidebar.Opened) -> None:
        self.said.append(event)

    on_conversation_list_new_asked = on_conversation_list_opened
    on_conversation_list_rename_asked = on_conversation_list_opened
    on_conversation_list_pin_asked = on_conversation_list_opened
    on_conversation_list_delete_asked = on_conversation_list_opened
    on_conversation_list_move_asked = on_conversation_list_opened
    on_conversation_list_menu_asked = on_conversation_list_opened
    on_conversation_list_search_asked = on_conversation_list_opened
    on_conversation_list_left = on_conversation_list_opened


@asynccontextmanager
async def alone(size: tuple[int, int] = (34, 30)) -> AsyncIterator[tuple[Alone, Pilot[int], ConversationList]]:
    """The app, running, with the list in focus."""
    app = Alone()
    async with app.run_test(size=size) as pilot:
        app.query_one(Sidebar).show(SOME, 2)
        app.query_one(Sidebar).focus_list()
        await pilot.pause()
        yield app, pilot, app.query_one(ConversationList)


def run(story: Coroutine[Any, Any, None]) -> None:
    """A story to its end."""
    asyncio.run(story)


def lines(widget: ConversationList) -> list[str]:
    """What is drawn."""
    return [widget.render_line(y).text.rstrip() for y in range(widget.size.height)]


def test_pinned_ones_then_folders_then_the_rest_by_age() -> None:
    rows = arrange(SOME, open_folders=(), now=NOW)
    shown: list[str | int] = []
    for row in rows.rows:
        match row:
            case Heading(text=text) | SearchRow(text=text):
                shown.append(text)
            case Folder(name=name):
                shown.append(name)
            case Conversation(id=id_):
                shown.append(id_)
    assert shown == [
        "Pinned",
        1,
        "Folders",
        "work",
        "Today",
        2,
        "Yesterday",
        3,
        "Last 7 days",
        5,
        "October",
        6,
        "2025",
        7,
    ]
    opened = arrange(SOME, open_folders={"work"}, now=NOW)
    assert SOME[3] in opened.rows
    assert opened.num_lines == rows.num_lines + 2
    assert [opened.at(line) for line in (0, 1, 2, 3)] == [(0, 0), (1, 0), (1, 1), (2, 0)]
    assert opened.at(opened.num_lines) is None
    assert arrange((), open_folders=(), now=NOW).num_lines == 0


def test_a_filter_looks_at_title_folder_and_model() -> None:
    def found(words: str) -> list[int]:
        return [
            row.id for row in arrange(SOME, open_folders=(), words=words, now=NOW).rows if isinstance(row, Conversation)
        ]

    assert found("MARM") == [2]
    assert found("work") == [1, 4]
    assert found("work reg") == [4]
    assert len(found("smollm2")) == 7
    assert found("zzz") == []
    assert arrange(SOME, open_folders=(), words=" zzz ", now=NOW).rows == [SearchRow("zzz")]


def test_ages_are_short() -> None:
    now = NOW.timestamp()
    assert [age(now - s, now) for s in (-5, 5, 125, 7300, DAY, 6.9 * DAY)] == [
        "now",
        "now",
        "2 min",
        "2 h",
        "1 d",
        "6 d",
    ]
    assert age(now - 9 * DAY, now) == "12 Nov"
    assert age(now - 400 * DAY, now) == "2025-10-17"


def test_what_is_drawn() -> None:
    async def story() -> None:
        async with alone() as (_, pilot, widget):
            drawn = lines(widget)
            assert drawn[0] == " Pinned"
            assert "▌ Marmalade" in "\n".join(drawn)
            assert any("Haiku \\x1b[31m" in line for line in drawn), "what a terminal would obey is shown"
            for width in (3, 8, 20, 200):
                await pilot.resize_terminal(width, 10)
                await pilot.pause()
                assert all(widget.render_line(y).cell_length == widget.size.width for y in range(widget.size.height))

    run(story())


def test_plain_signs() -> None:
    async def story() -> None:
        app = Alone(ChatSettings(plain=True))
        async with app.run_test(size=(34, 30)) as pilot:
            app.query_one(Sidebar).show(SOME, 2)
            await pilot.pause()
            drawn = "\n".join(lines(app.query_one(ConversationList)))
            assert "> Marmalade" in drawn
            assert " + work" in drawn
            assert not set("▌▸⌕") & set(drawn)

    run(story())


def test_keys_say_what_is_wanted() -> None:
    async def story() -> None:
        async with alone() as (app, pilot, widget):
            assert widget.chosen == SOME[1], "the cursor begins at the open one"
            await pilot.press("down", "enter", "r", "p", "m", "d", "o", "n", "escape")
            await pilot.pause()
            await wait_until(pilot, lambda: len(app.said) == 8)
            names = [type(message).__name__ for message in app.said]
            assert names == [
                "Opened",
                "RenameAsked",
                "PinAsked",
                "MoveAsked",
                "DeleteAsked",
                "MenuAsked",
                "NewAsked",
                "Left",
            ]
            assert {getattr(message, "id", 3) for message in app.said} == {3}
            await pilot.press("home")
            assert widget.chosen == SOME[0]
            await pilot.press("end", "down")
            assert widget.chosen == SOME[6]
            await pilot.press("pageup", "pageup", "pageup")
            assert widget.chosen == SOME[0]
            await pilot.press("pagedown")
            assert widget.chosen == SOME[6]

    run(story())


def test_folders_open_and_close() -> None:
    async def story() -> None:
        async with alone() as (app, pilot, widget):
            await pilot.press("home", "down", "enter", "down")
            assert widget.chosen == SOME[3]
            assert "    Regex" in "\n".join(lines(widget))
            await pilot.press("left")
            assert widget.chosen is None
            assert "Regex" not in "\n".join(lines(widget))
            await pilot.press("right", "down")
            assert widget.chosen == SOME[3]
            # Whatever is open can be seen, wherever it is.
            await pilot.press("left")
            app.query_one(Sidebar).show(SOME, 4)
            await pilot.pause()
            assert "▌   Regex" in "\n".join(lines(widget))

    run(story())


def test_filtering_while_typing() -> None:
    async def story() -> None:
        async with alone() as (app, pilot, widget):
            await pilot.press("slash", *"ma")
            await pilot.pause()
            assert lines(widget)[0].split() == ["▌", "Marmalade", "⋯"], "what Enter opens is marked"
            await pilot.press("down", "enter")
            await wait_until(pilot, lambda: app.said == [Sidebar.SearchAsked("ma")])
            await pilot.press("up", "enter")
            await wait_until(pilot, lambda: app.said[-1] == Sidebar.Opened(2))
            await wait_until(pilot, lambda: lines(widget)[0] == " Pinned")
            await pilot.press("slash", "x", "escape")
            await wait_until(pilot, lambda: lines(widget)[0] == " Pinned")
            assert widget.has_focus

    run(story())


def test_by_mouse() -> None:
    async def story() -> None:
        async with alone() as (app, pilot, widget):
            at = next(y for y, line in enumerate(lines(widget)) if "Lighthouse" in line)
            await pilot.hover(ConversationList, offset=(5, at))
            await pilot.pause()
            assert lines(widget)[at].endswith("⋯")
            await pilot.click(ConversationList, offset=(5, at + 1))
            await pilot.click(ConversationList, offset=(widget.size.width - 2, at))
            await pilot.click("_New")
            await pilot.click(ConversationList, offset=(5, 0))
            await pilot.pause()
            await wait_until(pilot, lambda: app.said == [Sidebar.Opened(3), Sidebar.MenuAsked(3), Sidebar.NewAsked()])

    run(story())


def test_a_new_list_moves_neither_cursor_nor_what_is_seen() -> None:
    async def story() -> None:
        async with alone(size=(34, 12)) as (app, pilot, widget):
            many = [conversation(number, f"title {number}", number * 7200.0) for number in range(10, 10_000)]
            app.query_one(Sidebar).show(many, 10)
            for _ in range(200):
                widget.action_move_cursor(1)
            await pilot.pause()
            chosen, before = widget.chosen, lines(widget)
            assert chosen is not None
            began = time.process_time()
            fresh = [conversation(number, f"fresh {number}", 1.0) for number in range(10_000, 10_005)]
            app.query_one(Sidebar).show([*fresh, *many], 10)
            assert time.process_time() - began < 0.5
            await pilot.pause()
            assert widget.chosen == chosen
            assert lines(widget) == before
            widget.scroll_to(y=0, animate=False)
            await pilot.resize_terminal(34, 14)
            await wait_until(pilot, lambda: any(chosen.title in line for line in lines(widget)))
            # Where the one under the cursor is gone, the cursor is on the first.
            app.query_one(Sidebar).show(fresh, None)
            await pilot.pause()
            assert widget.chosen == fresh[0]
            app.query_one(Sidebar).show((), None)
            await pilot.press("down", "enter", "d", "left", "right", "pagedown", "home")
            assert widget.chosen is None

    run(story())


def test_a_long_name_is_cut_and_the_age_is_whole() -> None:
    async def story() -> None:
        long = "hf:somebody/a-model-of-a-long-name:Q4_K_M"
        now = time.time()
        given = (
            Conversation(1, title="a", model=long, updated=now - 1750),
            Conversation(2, title="b", model="/a/long/path/to/smol.gguf", updated=now - 7300),
        )
        async with alone(size=(28, 12)) as (app, pilot, widget):
            app.query_one(Sidebar).show(given, 1)
            await pilot.pause()
            notes = [line.strip() for line in lines(widget) if "·" in line]
            assert notes[0].endswith("… · 29 min")
            assert notes[1] == "smol.gguf · 2 h"
            await pilot.resize_terminal(10, 12)
            await pilot.pause()
            assert any(line.strip("▌ ") == "29 min" for line in lines(widget))

    run(story())
