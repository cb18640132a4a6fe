"""Picking personas and snippets, and looking at what is attached."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from localllm_tui.history.values import Attachment
from localllm_tui.options import ChatSettings, Persona
from localllm_tui.prompt.personas import Named
from localllm_tui.screens.parameters import ParametersScreen
from localllm_tui.screens.persona import PersonaScreen
from localllm_tui.screens.preview import PreviewScreen
from localllm_tui.screens.snippets import SnippetScreen
from localllm_tui.widgets.quiet import QuietList
from textual.app import App
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input, Static

from tests.tui.host import run, wait_until
from tests.tui.screens.dressed import Dressed

SETTINGS = ChatSettings(
    snippets={"sum\x1b[2J": "Sum up {what} as {{json}}", "plain": "[b]plain[/b] \x1b[31m"},
    personas={"pirate": Persona("You are {who}, a pirate of {sea}.", {"sea": "the South"}, "tiny")},
)


@contextlib.asynccontextmanager
async def shown(
    screen: Screen[Any], size: tuple[int, int] = (90, 24)
) -> AsyncIterator[tuple[App[None], Pilot[None], list[Any]]]:
    app: App[None] = App()
    results: list[Any] = []
    async with app.run_test(size=size) as pilot:
        app.push_screen(screen, results.append)
        await wait_until(pilot, lambda: app.screen is screen and screen.query("*"))
        await pilot.pause()
        yield app, pilot, results


def names(app: App[None]) -> list[str]:
    return [str(option.prompt).split("  ")[0] for option in app.screen.query_one(QuietList).options]


def test_a_persona_is_searched_previewed_filled_in_and_returned() -> None:
    async def story() -> None:
        async with shown(PersonaScreen(SETTINGS)) as (app, pilot, results):
            assert names(app)[0] == "pirate"
            assert "concise" in names(app)
            assert "You are {who}" in str(app.screen.query_one("#text", Static).content)
            await pilot.press("p", "r", "t")
            assert names(app)[0] == "pirate"
            await pilot.press("enter")
            await wait_until(pilot, lambda: isinstance(app.screen, ParametersScreen))
            assert [field.value for field in app.screen.query(Input)] == ["", "the South"]
            await pilot.press("A", "n", "n", "enter", "enter")
            await wait_until(pilot, lambda: results)
            assert isinstance(results[0], Named)
            assert (results[0].text, results[0].model) == ("You are Ann, a pirate of the South.", "tiny")

    run(story())


def test_leaving_picks_nothing() -> None:
    async def story() -> None:
        async with shown(PersonaScreen(SETTINGS)) as (app, pilot, results):
            await pilot.press("enter")
            await wait_until(pilot, lambda: isinstance(app.screen, ParametersScreen))
            await pilot.press("escape")
            await wait_until(pilot, lambda: isinstance(app.screen, PersonaScreen))
            await pilot.press("z", "z", "z", "enter", "down")
            assert names(app) == []
            await pilot.press("escape")
            await wait_until(pilot, lambda: results == [None])

    run(story())


def test_names_have_room_in_a_small_terminal_and_the_text_gives_way() -> None:
    async def story() -> None:
        async with shown(PersonaScreen(SETTINGS), (20, 10)) as (app, pilot, _results):
            listed, beside = app.screen.query_one(QuietList), app.screen.query_one("#beside")
            # The breakpoints of the widths are the chat's.
            app.screen.add_class("-narrow")
            await wait_until(pilot, lambda: listed.size.height >= 3 and not beside.display)
            hint = app.screen.query_one(".hint", Static)
            await wait_until(pilot, lambda: str(hint.render()) == "Enter takes it")
            await pilot.press("z", "z", "z")
            await wait_until(pilot, lambda: beside.display and beside.size.height >= 3)
            await pilot.resize_terminal(60, 30)
            await wait_until(pilot, lambda: listed.size.height >= 3 and beside.size.height >= 3)
            await wait_until(pilot, lambda: str(hint.render()).endswith(" · /persona save NAME keeps this one"))

    run(story())


def test_the_keys_that_are_said_are_those_in_force() -> None:
    async def story() -> None:
        settings = ChatSettings(personas=SETTINGS.personas, keys={"find.take": "f12", "parameters.next": "f11"})
        app = Dressed(PersonaScreen(settings), settings)
        async with app.run_test(size=(90, 24)) as pilot:

            def hint() -> str:
                return " ".join(str(one.render()) for one in app.screen.query(".hint").results(Static))

            await wait_until(pilot, lambda: hint().startswith("F12 takes it"))
            await pilot.press("enter", "f12")
            await wait_until(pilot, lambda: hint().startswith("F11 goes on"))
            await pilot.press("A", "f11", "f11")
            await wait_until(pilot, lambda: isinstance(app.result, Named))
            assert app.result.text == "You are A, a pirate of the South."

    run(story())


def test_a_snippet_by_mouse_and_what_it_holds_is_never_obeyed() -> None:
    async def story() -> None:
        async with shown(SnippetScreen(SETTINGS)) as (app, pilot, results):
            assert names(app) == ["plain", "sum\\x1b[2J"]
            assert str(app.screen.query_one("#text", Static).content) == "[b]plain[/b] \\x1b[31m"
            await pilot.click(QuietList, offset=(2, 1))
            await wait_until(pilot, lambda: isinstance(app.screen, ParametersScreen))
            await pilot.press("x", "enter")
            await wait_until(pilot, lambda: results)
            assert results[0].text == "Sum up x as {json}"
        async with shown(SnippetScreen(ChatSettings()), (20, 8)) as (app, pilot, results):
            assert "nothing here yet" in str(app.screen.query_one("#text", Static).content)
            await pilot.press("enter", "escape")
            await wait_until(pilot, lambda: results == [None])

    run(story())


def test_what_is_attached_is_shown_and_not_obeyed() -> None:
    async def story() -> None:
        files = (Attachment("a\x1b.py", "one\x1b[2J\n[b]"), Attachment("b", "x" * 100_000))
        async with shown(PreviewScreen("*.py", files)) as (app, pilot, results):
            text = str(app.screen.query_one("#content", Static).content)
            assert text.startswith("a\\x1b.py\none\\x1b[2J\n[b]")
            assert text.endswith("only its beginning is shown here; all of it is sent")
            await pilot.press("escape")
            await wait_until(pilot, lambda: results == [""])
        async with shown(PreviewScreen("a", files)) as (app, pilot, results):
            await pilot.click("#links Link:last-of-type")
            await wait_until(pilot, lambda: results == ["remove"])

    run(story())
