"""The tools' screen over real servers: how they stand, what is allowed and offered, and how that is changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from localllm_tui.screens.tools import ToolsScreen
from localllm_tui.tools.toolbox import Toolbox
from localllm_tui.tools.values import Tool, ToolState
from localllm_tui.widgets.tool_lines import about_tool, parameters
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from localllm import paths
from tests.tui.host import chat_host, run, wait_until
from tests.tui.screens.dressed import NOTHING, Dressed
from tests.tui.tools.servers import ECHO, write_servers


def lines(pilot: Pilot[int]) -> list[str]:
    """The list."""
    options = pilot.app.screen.query_one(OptionList)
    return [str(options.get_option_at_index(at).prompt) for at in range(options.option_count)]


def about(pilot: Pilot[int]) -> str:
    """What is said of the one that is chosen."""
    return str(pilot.app.screen.query_one("#tools-one", Static).content)


def test_servers_and_tools_are_seen_and_changed(tmp_path: Path) -> None:
    pytest.importorskip("mcp")

    async def story() -> None:
        toolbox = Toolbox(write_servers(tmp_path, echo=ECHO, absent={"command": "no-such-command", "huh": 1}))
        await toolbox.start()
        app = Dressed(ToolsScreen(toolbox, 1))
        async with app.run_test(size=(110, 30)) as pilot:
            await wait_until(pilot, lambda: len(lines(pilot)) == 14)
            shown = lines(pilot)
            assert shown[0] == "● echo   ready · 12 tools"
            assert shown[1].split() == ["●", "echo", "asks"]
            assert "bell \\x1b[31m\\x07" in shown[12]
            assert shown[13] == "✗ absent   there is no no-such-command"
            await wait_until(pilot, lambda: "echo server up" in about(pilot))

            await pilot.press("down")
            assert "Gives the text back." in about(pilot)
            assert "Models call it echo__echo" in about(pilot)
            await pilot.press("a")
            assert lines(pilot)[1].endswith("allowed in this chat")
            assert not toolbox.needs_approval(1, "echo__echo")
            await pilot.press("A")
            assert lines(pilot)[1].endswith("always allowed")
            await pilot.press("x")
            assert toolbox.needs_approval(1, "echo__echo")
            await pilot.press("space")
            assert lines(pilot)[1].endswith("switched off")
            assert "echo__echo" not in {spec.name for spec in toolbox.specs(1)}
            await pilot.press("enter")
            assert "echo__echo" in {spec.name for spec in toolbox.specs(1)}

            await pilot.press("A", "s")
            await wait_until(pilot, lambda: toolbox.log("echo").count("echo server up") == 2)
            await pilot.press("end")
            assert "huh is not known here and does nothing" in about(pilot)

            # The server says something else of its tool: it asks again, and that is to be seen.
            write_servers(tmp_path, echo={**ECHO, "env": {"ECHO_DESCRIPTION": "\x1b]0;Other\x07"}})
            await pilot.press("r")
            await wait_until(pilot, lambda: len(lines(pilot)) == 13 and lines(pilot)[1].endswith("asks again"))
            await pilot.press("home", "down")
            await wait_until(pilot, lambda: "\\x1b]0;Other\\x07" in about(pilot))
            assert "It asks again." in about(pilot)

            (tmp_path / "mcp.json").write_text("{")
            await pilot.press("r")
            trouble = app.screen.query_one("#tools-trouble", Static)
            await wait_until(pilot, lambda: trouble.display and "line 1, column 2" in str(trouble.content))
            await pilot.resize_terminal(20, 8)
            await pilot.press("down", "up", "escape")
            await wait_until(pilot, lambda: app.result is not NOTHING)
        await toolbox.close()

    run(story())


def test_without_servers_it_says_how_to_have_some(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path) as host:
            await host.pilot.press("f7")
            await host.until(lambda: isinstance(host.app.screen, ToolsScreen))
            assert str(host.app.toolbox.file) in about(host.pilot)
            example = about(host.pilot).partition("this:")[2].rpartition("Then")[0]
            assert json.loads(example)["mcpServers"]
            await host.pilot.press("space", "a", "A", "x", "s", "enter", "escape")
            await host.until(lambda: host.app.screen is host.screen)

    run(story())


def test_what_is_not_there_is_said_once(tmp_path: Path) -> None:
    async def story() -> None:
        folder = paths.mcp_file().parent
        folder.mkdir(parents=True, exist_ok=True)
        write_servers(folder, bad={"args": []}, off={"command": "x", "disabled": True})
        async with chat_host(tmp_path) as host:
            await host.until(lambda: any("mcpServers.bad" in said.message for said in host.app._notifications))
            (said,) = [said for said in host.app._notifications if "Tools" in said.title]
            assert "off" not in said.message
        (folder / "mcp.json").write_text("[]")
        async with chat_host(tmp_path) as host:
            await host.until(lambda: any("no object mcpServers" in said.message for said in host.app._notifications))

    run(story())


def test_what_a_tool_takes_whatever_its_schema_is() -> None:
    def tool(schema: object) -> Tool:
        return Tool("s__t", "s", "t", "", schema)  # type: ignore[arg-type]

    schema = {
        "properties": {
            "path": {"type": "string", "description": "Where\n to"},
            "mode": {"enum": ["r", "w"]},
            "odd": True,
            "both": {"type": ["string", "null"]},
        },
        "required": ["path"],
    }
    assert parameters(tool(schema)) == [
        ("path", "string   Where to", True),
        ("mode", 'one of ["r", "w"]', False),
        ("odd", "anything", False),
        ("both", '["string", "null"]', False),
    ]
    odds: list[object] = [{}, {"properties": []}, {"properties": {"a": {}}, "required": "a"}]
    for odd in odds:
        assert "does not say what it does" in about_tool(ToolState(tool(odd))).plain
