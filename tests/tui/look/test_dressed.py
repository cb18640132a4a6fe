"""What the app wears: themes, no colour, plain mode, widths, a person's keys, help and palette made from the tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from localllm_tui.look.themes import CONTRAST, DARK, LIGHT, MONO
from localllm_tui.options import ChatSettings
from localllm_tui.screens.chat import ChatScreen
from localllm_tui.screens.commands import COMMANDS
from localllm_tui.screens.help import HelpScreen
from localllm_tui.screens.server import ServerScreen
from localllm_tui.widgets.sidebar import Sidebar
from textual.command import CommandList
from textual.widgets import Static

from tests.tui.host import Host, chat_host, run


def words(host: Host) -> str:
    """All text of the screen that is on top."""
    return "\n".join(str(line.render()) for line in host.app.screen.query(Static) if line.display)


def drawn_colours(host: Host) -> set[tuple[object, object]]:
    """The colours that the screen is drawn in."""
    lines = host.app.screen._compositor.render_strips()
    styles = (segment.style for strip in lines for segment in strip if segment.style is not None)
    return {(style.color, style.bgcolor) for style in styles}


def test_themes_are_worn_and_changed_by_a_key(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path) as host:
            assert host.app.theme == DARK
            assert {DARK, LIGHT, CONTRAST, MONO} <= set(host.app.available_themes)
            await host.pilot.press("f2")
            assert host.app.theme == LIGHT
            await host.pilot.press("f2")
            assert host.app.theme == DARK
            assert len(drawn_colours(host)) > 3
            host.app.theme = MONO
            await host.pilot.pause()
            await host.until(lambda: {(str(a), str(b)) for a, b in drawn_colours(host)} == {_NONE})

    run(story())


_NONE = ("Color('default', ColorType.DEFAULT)",) * 2


def test_no_color_is_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def story() -> None:
        async with chat_host(tmp_path, settings=ChatSettings(theme=LIGHT)) as host:
            assert host.app.theme == MONO

    run(story())


def test_a_theme_that_does_not_exist_is_said_and_the_usual_one_worn(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, settings=ChatSettings(theme="evil\x1b[2J")) as host:
            assert host.app.theme == DARK
            await host.until(lambda: any("no theme" in note.message for note in host.app._notifications))

    run(story())


def test_the_list_goes_where_there_is_no_room_and_comes_by_its_key(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, size=(100, 30)) as host:
            sidebar = host.screen.query_one(Sidebar)
            assert sidebar.display
            await host.pilot.resize_terminal(60, 30)
            await host.until(lambda: not sidebar.display)
            await host.pilot.press("ctrl+o")
            await host.until(lambda: sidebar.display)
            await host.pilot.press("escape")
            await host.until(lambda: not sidebar.display)
            for columns in (20, 5, 120):
                await host.pilot.resize_terminal(columns, 12)
                await host.pilot.pause()
            await host.until(lambda: sidebar.display)

    run(story())


def test_plain_has_no_boxes_no_bars_and_says_states_in_words(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, ["Hello"], settings=ChatSettings(plain=True), size=(100, 30)) as host:
            await host.say("hi")
            await host.until(lambda: "Hello" in host.shown())
            await host.pilot.pause()
            lines = ["".join(segment.text for segment in strip) for strip in host.screen._compositor.render_strips()]
            text = "\n".join(lines)
            assert not set(text) & set("│╭╮╰╯━─┃▌█")
            assert re.search(r"You.*\n.*hi", text)
            assert not host.screen.query_one(Sidebar).display
            assert host.app.animation_level == "none"

    run(story())


def test_help_has_every_key_and_command_with_the_keys_in_force(tmp_path: Path) -> None:
    async def story() -> None:
        settings = ChatSettings(keys={"chat.new": "f12"})
        async with chat_host(tmp_path, settings=settings, size=(120, 40)) as host:
            await host.pilot.press("f12")
            await host.pilot.press("f1")
            await host.until(lambda: isinstance(host.app.screen, HelpScreen))
            await host.until(lambda: "/new" in words(host))
            text = words(host)
            assert re.search(r"F12 +New conversation +chat.new", text)
            assert all(f"/{command.name}" in text for command in COMMANDS if not command.hidden)
            for columns in (40, 20):
                await host.pilot.resize_terminal(columns, 20)
                await host.pilot.pause()
            await host.pilot.press("escape")
            await host.until(lambda: isinstance(host.app.screen, ChatScreen))

    run(story())


def test_wrong_keys_are_said(tmp_path: Path) -> None:
    async def story() -> None:
        settings = ChatSettings(keys={"chat.nwe": "f12", "list.rename": "d"})
        async with chat_host(tmp_path, settings=settings) as host:
            await host.until(lambda: len(host.app._notifications) >= 2)
            said = " ".join(note.message for note in host.app._notifications)
            assert "did you mean 'chat.new'" in said
            assert "d is both" in said

    run(story())


def test_every_binding_has_an_id_and_an_id_means_one_thing() -> None:
    from localllm_tui.look.keymap import _declared, all_owners

    seen: dict[str, str] = {}
    without = []
    for owner in all_owners():
        for binding in _declared(owner):
            if binding.id is None:
                if binding.description:
                    without.append(f"{owner.__name__}: {binding.description}")
            else:
                action = binding.action.partition("(")[0]
                assert seen.setdefault(binding.id, action) == action, binding.id
    assert without == []


async def choose(host: Host, typed: str) -> None:
    """The first line of the palette for what is typed, once it is there."""
    await host.pilot.press("ctrl+p", *typed)
    await host.until(lambda: host.app.screen.query(CommandList) and host.app.screen.query_one(CommandList).option_count)
    await host.until(lambda: typed in str(host.app.screen.query_one(CommandList).get_option_at_index(0).prompt).lower())
    await host.pilot.press("enter")


def test_the_palette_runs_commands_and_keys(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, ["Hello"]) as host:
            await host.say("hi")
            await host.until(lambda: "Hello" in host.shown())
            first = host.screen.open.id
            await choose(host, "new")
            await host.until(lambda: host.screen.open.id != first)
            await choose(host, "server")
            await host.until(lambda: isinstance(host.app.screen, ServerScreen))

    run(story())
