"""The search screen alone: stale answers, errors, narrow terminals, what is shown."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from localllm_tui.history.errors import HistoryError
from localllm_tui.history.values import Conversation, Hit
from localllm_tui.look.dressed import DressedApp
from localllm_tui.options import ChatSettings
from localllm_tui.screens.search import Place, SearchScreen
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from tests.tui.host import wait_until


def hit(number: int, node: int | None, *pieces: str) -> Hit:
    """A hit whose second, fourth, ... pieces were found."""
    conversation = Conversation(number, title=f"Title {number} \x1b[31m", folder="work")
    snippet = tuple((piece, place % 2 == 1) for place, piece in enumerate(pieces))
    return Hit(conversation, node, snippet, None if node is None else "user", 1.0)


class Alone(DressedApp):
    """An app with the screen, and what it gave."""

    def __init__(self, search: Callable[[str], tuple[Hit, ...]]) -> None:
        super().__init__(ChatSettings())
        self.search = search
        self.given: list[Place | None] = []

    def on_mount(self) -> None:
        self.push_screen(SearchScreen(self.search), self.given.append)


@asynccontextmanager
async def alone(
    search: Callable[[str], tuple[Hit, ...]], size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[Alone, Pilot[int]]]:
    """The app, running."""
    app = Alone(search)
    async with app.run_test(size=size) as pilot:
        await wait_until(pilot, lambda: isinstance(app.screen, SearchScreen) and app.screen.is_mounted)
        yield app, pilot


def shown(app: Alone) -> list[str]:
    """The hits, as text."""
    options = app.screen.query_one(OptionList).options
    return [str(option.prompt) for option in options]


def summary(app: Alone) -> str:
    """The line below."""
    return str(app.screen.query_one("#search-found", Static).content)


def test_hits_are_shown_and_the_chosen_place_is_given() -> None:
    hits = (hit(1, None, "Title 1"), hit(2, 7, "…before ", "found", " after\x1b[0m"), hit(2, 8, "more ", "found"))

    async def story() -> None:
        async with alone(lambda words: hits if words == "found" else ()) as (app, pilot):
            await pilot.press(*"found")
            await wait_until(pilot, lambda: len(shown(app)) == 3)
            first, second, third = shown(app)
            assert first.startswith("work / Title 1 \\x1b[31m")
            assert "\n" not in first
            assert "You  …before found after\\x1b[0m" in second.splitlines()[1]
            assert third.strip() == "You  more found", "a conversation's name stands once"
            assert "\x1b" not in "".join(shown(app))
            assert summary(app) == "3 places in 2 conversations"
            await pilot.press("down", "down", "enter")
            await wait_until(pilot, lambda: app.given == [(2, 8)])

    asyncio.run(story())


def test_what_was_found_is_seen_on_a_short_line() -> None:
    long = hit(1, 2, "…a very long way before it comes to what was ", "found", " and on")

    async def story() -> None:
        async with alone(lambda _: (long,), size=(40, 12)) as (app, pilot):
            await pilot.press("f")
            await wait_until(pilot, lambda: len(shown(app)) == 1)
            assert "…what was found and" in shown(app)[0]

    asyncio.run(story())


def test_an_answer_to_earlier_words_is_dropped() -> None:
    slow, asked = threading.Event(), []

    def search(words: str) -> tuple[Hit, ...]:
        asked.append(words)
        if words == "a":
            slow.wait(10)
        return (hit(len(words), None, words),)

    async def story() -> None:
        async with alone(search) as (app, pilot):
            await pilot.press("a")
            await wait_until(pilot, lambda: asked == ["a"])
            await pilot.press("b")
            await wait_until(pilot, lambda: shown(app) and "Title 2" in shown(app)[0])
            slow.set()
            await wait_until(pilot, lambda: not app.screen.workers or len(list(app.workers)) == 0)
            assert "Title 2" in shown(app)[0]
            await pilot.press("backspace", "backspace")
            await wait_until(pilot, lambda: shown(app) == [] and summary(app) == "")
            await pilot.press("enter", "escape")
            await wait_until(pilot, lambda: app.given == [None])

    asyncio.run(story())


def test_an_error_is_said_and_a_narrow_terminal_is_no_harm() -> None:
    def search(words: str) -> tuple[Hit, ...]:
        if words == "x":
            raise HistoryError("the disk is gone")
        return (hit(1, 2, "a long snippet ", "找到", " 很长的文字" * 9),) * 30

    async def story() -> None:
        async with alone(search, size=(20, 8)) as (app, pilot):
            await pilot.press("x")
            await wait_until(pilot, lambda: summary(app) == "the disk is gone")
            await pilot.press("y")
            await wait_until(pilot, lambda: len(shown(app)) == 30)
            for columns in (10, 3, 120):
                await pilot.resize_terminal(columns, 6)
                await pilot.pause()
            await pilot.press("pagedown", "pageup", "up", "enter")
            await wait_until(pilot, lambda: app.given == [(1, 2)])

    asyncio.run(story())
