"""The models' screen over a Backend, for its tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from localllm_tui.screens.models import ModelsScreen
from localllm_tui.screens.pull import Pulls
from localllm_tui.widgets.model_list import ModelList
from localllm_tui.widgets.pull_row import PullRow
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Button, Input, Static

from localllm.api import Backend
from tests.tui.host import wait_until
from tests.tui.screens.dressed import Dressed


@dataclass
class Shown:
    """A screen over a Backend."""

    pilot: Pilot[Any]
    screen: Screen[Any]
    pulls: Pulls
    app: Dressed

    async def until(self, predicate: Callable[[], object]) -> None:
        await wait_until(self.pilot, predicate)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        find = self.screen.query_one(Input)
        find.focus()
        find.value = text
        await self.pilot.pause()

    async def choose(self, name: str) -> None:
        models = self.screen.query_one(ModelList)
        await self.until(lambda: name in self.ids())
        models.focus()
        models.highlighted = self.ids().index(name)
        await self.pilot.pause()

    def ids(self) -> list[str | None]:
        return [option.id for option in self.screen.query_one(ModelList).options]

    def names(self) -> list[str]:
        return [id_ for id_ in self.ids() if id_ is not None]

    def rows(self) -> list[str]:
        return [str(option.prompt) for option in self.screen.query_one(ModelList).options]

    def row(self, name: str) -> str:
        return self.rows()[self.ids().index(name)]

    def text(self, selector: str) -> str:
        return str(self.app.screen.query_one(selector, Static).render())

    def pull_text(self) -> str:
        return "\n".join(shown.text for shown in self.screen.query(PullRow))

    async def until_pull_says(self, words: str) -> None:
        await self.until(lambda: words in self.pull_text())

    async def press_button(self, label: str) -> None:
        def found() -> Button | None:
            buttons = self.app.screen.query(Button)
            return next((one for one in buttons if str(one.label) == label and one.display), None)

        await self.until(found)
        button = found()
        assert button is not None
        button.press()
        await self.pilot.pause()


@asynccontextmanager
async def models_screen(
    backend: Backend | Callable[[], Awaitable[Backend]], size: tuple[int, int] = (110, 32), *, plain: bool = False
) -> AsyncIterator[Shown]:
    async def made() -> Backend:
        return await backend() if callable(backend) else backend

    pulls = Pulls(made)
    screen = ModelsScreen(made, pulls, plain=plain)
    app = Dressed(screen)
    async with app.run_test(size=size) as pilot:
        await wait_until(pilot, lambda: "looking" not in str(screen.query_one("#models-head", Static).render()))
        yield Shown(pilot, screen, pulls, app)
        await pulls.close()
