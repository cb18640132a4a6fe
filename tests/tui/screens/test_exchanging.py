"""Export and import as a person asks for them in the chat."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from localllm_tui.screens.pick import PickScreen
from localllm_tui.screens.words import LineScreen
from textual.widgets import Input

from tests.tui.host import chat_host, run


def test_export_and_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    foreign = {"model": "m", "title": "From afar", "messages": [{"role": "user", "content": "hello"}]}
    (tmp_path / "afar.json").write_text(json.dumps(foreign))

    async def story() -> None:
        async with chat_host(tmp_path, ["# Hello"]) as host:
            await host.screen.run_command("export", "nothing.md")
            await host.say("hi there")
            await host.until(lambda: not host.screen.open.is_busy and "Hello" in host.shown())

            await host.screen.run_command("export", "talk.md")
            await host.until((tmp_path / "talk.md").exists)
            assert "# Hello" in (tmp_path / "talk.md").read_text()
            assert not (tmp_path / "nothing.md").exists()

            await host.screen.run_command("export")
            await host.until(lambda: isinstance(host.app.screen, PickScreen))
            await host.pilot.press("down", "enter")
            await host.until(lambda: isinstance(host.app.screen, LineScreen))
            assert host.app.screen.query_one(Input).value == "hi-there.html"
            await host.pilot.press("enter")
            await host.until((tmp_path / "hi-there.html").exists)

            await host.screen.run_command("export", "all all.json")
            await host.until((tmp_path / "all.json").exists)
            await host.screen.run_command("export", "talk.md")
            await host.until(lambda: any("nothing is overwritten" in note.message for note in host.app._notifications))

            await host.screen.run_command("import", "afar.json")
            await host.until(lambda: host.history.count() == 2)
            await host.until(lambda: any(note.message == "1 imported" for note in host.app._notifications))
            await host.screen.run_command("import")
            await host.until(lambda: isinstance(host.app.screen, LineScreen))
            host.app.screen.query_one(Input).value = "all.json"
            await host.pilot.press("enter")
            await host.until(lambda: any("were here already" in note.message for note in host.app._notifications))
            await host.screen.run_command("import", "none.json")
            await host.until(lambda: any("cannot be read" in note.message for note in host.app._notifications))
            assert host.history.count() == 2

    run(story())
