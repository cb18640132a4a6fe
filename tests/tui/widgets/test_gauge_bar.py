"""The line of figures on the screen: it fits wherever it is, and a bar is told without colour and in words."""

from __future__ import annotations

from localllm_tui.turns.gauges import Gauges
from localllm_tui.widgets.gauge_bar import GaugeBar
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from tests.tui.host import run, wait_until


class _Host(App[None]):
    def compose(self) -> ComposeResult:
        yield GaugeBar()


def _line(pilot: Pilot[None]) -> str:
    return str(pilot.app.query_one(GaugeBar).render())


def test_it_fits_and_the_bar_is_told_without_colour() -> None:
    async def story() -> None:
        async with _Host().run_test(size=(100, 4)) as pilot:
            bar = pilot.app.query_one(GaugeBar)
            bar.show(Gauges(num_used=4096, num_ctx=8192, num_cached=12, tokens_per_s=42.0, device="CPU"))
            await wait_until(pilot, lambda: "4,096 / 8,192 tokens" in _line(pilot))
            assert "━" * 16 in _line(pilot)
            pilot.app.no_color = True
            assert "━" * 8 + "─" * 8 in _line(pilot)
            for columns in (60, 40, 24, 12, 3):
                await pilot.resize_terminal(columns, 4)
                await pilot.pause()
                assert "\n" not in _line(pilot)
            await pilot.resize_terminal(100, 4)
            pilot.app.add_class("-plain")
            assert _line(pilot) == "4,096 / 8,192 tokens, 12 cached, 42.0 tok/s, CPU"

    run(story())
