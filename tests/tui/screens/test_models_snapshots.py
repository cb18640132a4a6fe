"""What is done with models, as it looks in dark, light and narrow."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from localllm_tui.look.themes import DARK, LIGHT
from localllm_tui.options import ChatSettings
from localllm_tui.screens.chat import ChatScreen
from localllm_tui.screens.model_details import ModelDetailsScreen
from localllm_tui.screens.models import ModelsScreen
from localllm_tui.widgets.model_list import ModelList
from textual.widgets import Input, Static

from localllm.api import Progress
from localllm.errors import DiskFullError
from tests.tui.host import MODEL, Host, chat_host, run
from tests.tui.screens.finding import FindingBackend, loaded
from tests.tui.screens.test_side_by_side import ask_both, columns
from tests.tui.snapshots import assert_snapshot, snapshot

LOOKS = {"dark": (DARK, 110), "light": (LIGHT, 110), "narrow": (DARK, 44)}
ANSWER = "A **monad** chains steps:\n\n```python\ndef bind(m, f):\n    return f(m.value)\n```\n"


async def settle(host: Host) -> None:
    """Until nothing changes on the screen any more."""
    for found in host.app.screen.query(Input):
        found.cursor_blink = False
    seen, times = "", 0
    while times < 3:
        await host.pilot.pause(0.06)
        now = snapshot(host.app)
        seen, times = now, times + 1 if now == seen else 0


async def back(host: Host) -> None:
    while not isinstance(host.app.screen, ChatScreen):
        await host.pilot.press("escape")
        await host.pilot.pause()


async def show_models(host: Host, backend: FindingBackend) -> None:
    """The list, a model that is highlighted, one that comes, one that did not."""
    await host.pilot.press("f3")
    await host.until(lambda: isinstance(host.app.screen, ModelsScreen))
    models = host.app.screen.query_one(ModelList)
    await host.until(lambda: len([option for option in models.options if option.id is not None]) == 4)
    backend.steps["qwen3:8b"] = [[Progress("download", "q", 1_509_000_000, 5_030_000_000), asyncio.Event()]]
    backend.steps["llama3.3:70b"] = [[DiskFullError("no room for it", needed_bytes=42_500_000_000, free_bytes=10**10)]]
    for name in backend.steps:
        host.screen.pulls.start(name)
    models.focus()
    models.highlighted = [option.id for option in models.options].index("qwen3:8b")


async def show_details(host: Host) -> None:
    models = host.app.screen.query_one(ModelList)
    models.highlighted = [option.id for option in models.options].index(MODEL)
    await host.pilot.press("d")
    await host.until(lambda: isinstance(host.app.screen, ModelDetailsScreen))
    await host.until(lambda: "tensors" in str(host.app.screen.query_one("#part-tensors", Static).render()))


@pytest.mark.parametrize("look", LOOKS)
def test_they_look_as_was_kept(look: str, tmp_path: Path) -> None:
    theme, width = LOOKS[look]

    async def story() -> None:
        never = asyncio.Event()
        backend = FindingBackend([ANSWER, never], ["Think of a *pipeline*.", never])
        backend.loaded[MODEL] = loaded(MODEL)
        settings = ChatSettings(theme=theme)
        differing: list[str] = []

        async def look_at(name: str) -> None:
            await settle(host)
            try:
                assert_snapshot(host.app, f"{name}-{look}")
            except AssertionError as exc:
                differing.append(str(exc))

        async with chat_host(tmp_path, backend=backend, settings=settings, size=(width, 30)) as host:
            await ask_both(host, "What is a monad?")
            await host.until(lambda: all(column.text for column in columns(host)))
            await look_at("side-by-side")
            await back(host)
            await show_models(host, backend)
            await look_at("models-catalogue")
            await show_details(host)
            await look_at("model-details")
        assert differing == []

    run(story())
