"""A dialog's frame and key: the usual size, all of a narrow screen, no box where none are wanted, Escape."""

from __future__ import annotations

from localllm_tui.options import ChatSettings
from localllm_tui.screens.confirm import ConfirmScreen
from localllm_tui.screens.limit import LimitScreen
from localllm_tui.screens.pick import Choice, PickScreen
from localllm_tui.screens.words import LineScreen
from localllm_tui.turns.context import Room
from localllm_tui.widgets.chart import Chart
from localllm_tui.widgets.quiet import QuietList
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.geometry import Region
from textual.screen import Screen

from tests.tui.host import run, wait_until
from tests.tui.screens.dressed import Dressed


async def _frame(settings: ChatSettings, columns: int) -> tuple[Region, bool]:
    """Where the frame is, and whether it is drawn."""
    app = Dressed(LineScreen("A title"), settings)
    async with app.run_test(size=(columns, 16)) as pilot:
        await pilot.pause()
        frame = app.screen.query_one(Vertical)
        return frame.region, bool(frame.styles.border_top[0])


def test_the_frame() -> None:
    async def story() -> None:
        wide, is_drawn = await _frame(ChatSettings(), 100)
        assert (wide.width, wide.x, is_drawn) == (72, 14, True)
        narrow, is_drawn = await _frame(ChatSettings(), 20)
        assert (narrow.width, narrow.x, is_drawn) == (20, 0, True)
        assert (await _frame(ChatSettings(plain=True), 100))[1] is False

    run(story())


def test_escape_is_an_answer_where_one_is_needed() -> None:
    async def story() -> None:
        for screen, answer in (
            (LineScreen("A title"), None),
            (ConfirmScreen("Delete it?"), False),
            (LimitScreen(Room(900, 1000, 200), {}), "edit"),
        ):
            app = Dressed(screen)
            async with app.run_test(size=(60, 20)) as pilot:
                await pilot.press("escape")
                await pilot.pause()
                assert app.result == answer

    run(story())


def test_a_finder_keeps_what_is_highlighted_when_its_size_changes() -> None:
    async def story() -> None:
        app = Dressed(PickScreen("Which", [Choice(str(n), f"choice {n}") for n in range(40)], placeholder="Part of it"))
        async with app.run_test(size=(60, 24)) as pilot:
            listed = app.screen.query_one(QuietList)
            await wait_until(pilot, lambda: listed.highlighted == 0)
            await pilot.press("down", "down")
            await pilot.resize_terminal(20, 12)
            await wait_until(pilot, lambda: app.screen.has_class("-narrow"))
            await pilot.press("down")
            await wait_until(pilot, lambda: listed.highlighted == 3)
            await pilot.press("pagedown")
            assert (listed.highlighted or 0) > 4
            await pilot.press(*"1 ch")
            await wait_until(pilot, lambda: listed.highlighted == 0 and listed.option_count == 13)
            await pilot.press("down", "enter")
            await wait_until(pilot, lambda: app.result == "10")

    run(story())


def test_a_chart_is_a_sentence_of_one_line_where_no_pictures_are_wanted() -> None:
    class Charts(Screen[None]):
        def compose(self) -> ComposeResult:
            yield Chart("tok/s")

    async def story() -> None:
        for plain, height in ((False, 4), (True, 1)):
            app = Dressed(Charts(), ChatSettings(plain=plain))
            async with app.run_test(size=(60, 20)) as pilot:
                await pilot.pause()
                assert app.screen.query_one(Chart).region.height == height

    run(story())
