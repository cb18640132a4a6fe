"""The foot of a screen: whole entries in any width, only what can be done, and a click is the key."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from localllm_tui.widgets.keys_foot import KeysFoot
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Offset
from textual.screen import Screen

from tests.tui.host import run, wait_until


class Footed(Screen[None]):
    __module__ = "localllm_tui.screens.footed"  # the foot shows the chat's own classes
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s,delete", "stop", "Stop this", id="footed.stop"),
        Binding("p", "turn", "Let it pass", id="footed.turn"),
        Binding("h", "turn", "Hidden", id="footed.hidden", show=False),
        Binding("escape,q", "leave", "Back", id="footed.leave"),
    ]
    can_stop = True
    num_turns = 0

    def compose(self) -> ComposeResult:
        yield KeysFoot(type(self))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        del parameters
        return self.can_stop or action != "stop"

    def action_stop(self) -> None:
        self.can_stop = False
        self.refresh_bindings()

    def action_turn(self) -> None:
        self.num_turns += 1

    def action_leave(self) -> None:
        self.dismiss()


def test_whole_entries_are_shown_and_the_way_back_stays() -> None:
    async def story() -> None:
        app: App[None] = App()
        async with app.run_test(size=(60, 5)) as pilot:
            screen = Footed()
            await app.push_screen(screen)
            foot = screen.query_one(KeysFoot)

            def shown() -> str:
                return str(foot.render()).rstrip()

            def is_shown(words: str) -> bool:
                return shown() == words

            for columns, words in (
                (60, "s Stop this   p Let it pass   Esc Back"),
                (38, "s Stop this   p Let it pass   Esc Back"),
                (37, "s Stop this   Esc Back"),
                (22, "s Stop this   Esc Back"),
                (21, "Esc Back"),
                (8, "Esc Back"),
            ):
                await pilot.resize_terminal(columns, 5)
                await wait_until(pilot, partial(is_shown, words))
                assert foot.size.height == 1
            await pilot.resize_terminal(37, 5)
            await wait_until(pilot, lambda: "Stop" in shown())
            await pilot.click(foot, offset=Offset(4, 0))
            await wait_until(pilot, lambda: shown() == "p Let it pass   Esc Back")
            await pilot.click(foot, offset=Offset(2, 0))
            await wait_until(pilot, lambda: screen.num_turns == 1)
            await pilot.click(foot, offset=Offset(18, 0))
            await wait_until(pilot, lambda: app.screen is not screen)

    run(story())
