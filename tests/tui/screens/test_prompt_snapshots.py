"""How the prompt looks in dark, light and narrow: attachments, completion, Vim, snippets, parameters, a preview."""

from __future__ import annotations

from pathlib import Path

import pytest
from localllm_tui.history.values import Attachment
from localllm_tui.look.themes import DARK, LIGHT
from localllm_tui.options import ChatSettings
from localllm_tui.screens.parameters import ParametersScreen
from localllm_tui.screens.preview import PreviewScreen
from localllm_tui.screens.snippets import SnippetScreen
from localllm_tui.widgets.attachment_chips import Chip
from localllm_tui.widgets.gauge_bar import GaugeBar
from localllm_tui.widgets.prompt_area import PromptArea
from textual.widgets import Input

from tests.tui.host import Host, chat_host, run
from tests.tui.snapshots import assert_snapshot, snapshot

LOOKS = {"dark": (DARK, 100), "light": (LIGHT, 100), "narrow": (DARK, 44)}
SNIPPETS = {"reply": "Write a short reply that says {what}, in a {tone} tone.", "sum up": "Sum up in three lines."}


async def settled(host: Host) -> None:
    """Until nothing changes on the screen any more."""
    for field in host.app.screen.query(Input):
        field.cursor_blink = False
    seen, times = "", 0
    while times < 3:
        await host.pilot.pause(0.05)
        now = snapshot(host.app)
        seen, times = now, times + 1 if now == seen else 0


@pytest.mark.parametrize("look", LOOKS)
def test_the_prompt_looks_as_it_was_kept(look: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theme, columns = LOOKS[look]
    for name, text in {"notes.md": "# Notes\n\nBuy bread.\n", "src/main.py": "print(1)\n", "src/logo.png": "x"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((b"\x89PNG\r\n\x1a\n" if name.endswith("png") else b"") + text.encode())
    monkeypatch.chdir(tmp_path)

    async def story() -> None:
        settings = ChatSettings(theme=theme, vim=True, snippets=SNIPPETS)
        async with chat_host(tmp_path / "data", settings=settings, size=(columns, 24)) as host:
            differing = list[str]()

            async def check(name: str) -> None:
                await settled(host)
                try:
                    assert_snapshot(host.app, f"{name}-{look}")
                except AssertionError as exc:
                    differing.append(str(exc))

            host.composer.query_one(PromptArea).cursor_blink = False
            host.screen.query_one(GaugeBar).display = False  # its figures come when they have been counted
            host.composer.attach(Attachment("standard input", "piped in\n" * 200))
            host.composer.text = "Compare @notes.md with @src/main.py and what is on\n@src/logo.png \nthen sum up"
            await host.until(lambda: sum("token" in str(chip.content) for chip in host.composer.query(Chip)) >= 2)
            await host.until(lambda: len(host.composer.query(Chip)) == 4)
            await host.pilot.press("escape", "2", "d")
            await check("prompt")
            host.composer.text = "/s"
            await host.until(lambda: len(host.composer.query(Chip)) == 1)
            await host.pilot.press("escape", "a", "e")
            await check("completion")
            host.composer.text = ""
            host.composer.query_one(Chip).focus()
            await host.pilot.press("enter")
            await host.until(lambda: isinstance(host.app.screen, PreviewScreen))
            await check("preview")
            await host.pilot.press("escape", "alt+s")
            await host.until(lambda: isinstance(host.app.screen, SnippetScreen))
            await check("snippets")
            await host.pilot.press("enter")
            await host.until(lambda: isinstance(host.app.screen, ParametersScreen))
            await check("parameters")
            assert differing == []

    run(story())
