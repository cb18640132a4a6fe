"""What stands over the chat or in its place, as it looks in dark, light and narrow; and the chat in plain mode."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from localllm_tui.history.values import Node, Stats
from localllm_tui.look.themes import DARK
from localllm_tui.options import ChatSettings
from localllm_tui.screens.chat import ChatScreen
from localllm_tui.screens.compare import CompareScreen
from localllm_tui.screens.confirm import ConfirmScreen
from localllm_tui.screens.limit import LimitScreen
from localllm_tui.screens.opening import OpeningScreen
from localllm_tui.screens.pick import PickScreen
from localllm_tui.screens.pick_model import PickModelScreen
from localllm_tui.screens.under_way import UnderWay
from localllm_tui.screens.words import LineScreen, TextScreen
from localllm_tui.tools.toolbox import Toolbox
from localllm_tui.turns.context import Room
from localllm_tui.widgets.branch_diff import BranchDiff
from localllm_tui.widgets.gauge_bar import GaugeBar
from localllm_tui.widgets.sidebar import Sidebar
from localllm_tui.widgets.tool_card import ToolCard
from localllm_tui.widgets.turn_foot import TurnFoot
from textual.screen import Screen
from textual.widgets import Input, OptionList, TextArea

from localllm.api import Finished, LoadedModel, ToolCall, ToolCallEvent, ToolSpec, Usage
from tests.tui import test_snapshots
from tests.tui.host import MODEL, MODELS, Host, ScriptedBackend, chat_host, run
from tests.tui.snapshots import difference
from tests.tui.test_snapshots import LOOKS, fill

pytestmark = pytest.mark.skipif(os.name != "posix", reason="paths look otherwise on Windows")
same_clock = test_snapshots.same_clock  # used by every test

ROWS = 30
SYSTEM = "You answer in short sentences.\n\nWhere code is asked for, give a function with its types."
SUMMARY = "The person asked for a function that adds one; the assistant gave `add_one`, with an example of its use."
TOOL = ToolSpec("files__write", "Writes a file", {"type": "object"})
CALL = ToolCall("c1", TOOL.name, json.dumps({"path": "notes/lisbon.md", "text": "# Lisbon\n\n1. Alfama\n2. Belém"}))
ASKED = Node(1, 1, None, "user", "Why is the sky blue?")
BRANCHES = tuple(
    (ASKED, Node(id_, 1, 1, "assistant", content, model=model, stats=Stats(num_output_tokens=num, decode_s=2.0)))
    for id_, model, num, content in (
        (2, MODEL, 50, "Air scatters short waves more than long ones, so blue comes from everywhere."),
        (3, "qwen3:0.6b", 62, "Air scatters blue light more than red, so blue light comes from everywhere in it."),
    )
)


class Looks:
    """One app in every look, screen after screen. `differing` is how it looks otherwise than was kept."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.differing: list[str] = []

    async def at(self, name: str) -> None:
        """Dark, light and narrow of what is there; dark again afterwards."""
        host = self._host
        for field in (*host.app.screen.query(Input), *host.app.screen.query(TextArea)):
            field.cursor_blink = False
        for look, (theme, columns) in LOOKS.items():
            await self._dress(theme, columns)
            if differs := await difference(host.pilot, f"{name}-{look}"):
                self.differing.append(differs)
        await self._dress(DARK, LOOKS["dark"][1])

    async def over(self, name: str, kind: type[Screen[Any]], *keys: str) -> None:
        """The screen of that kind, once it is there and the keys are pressed; left afterwards."""
        await self._host.until(lambda: isinstance(self._host.app.screen, kind) and self._host.app.screen.focused)
        await self._host.pilot.press(*keys)
        await self.at(name)
        while not isinstance(self._host.app.screen, ChatScreen):
            await self._host.pilot.press("escape")
            await self._host.pilot.pause()

    async def _dress(self, theme: str, columns: int) -> None:
        if self._host.app.size.width != columns:
            await self._host.pilot.resize_terminal(columns, ROWS)
        self._host.app.theme = theme
        await self._host.pilot.pause()


def models() -> ScriptedBackend:
    """Two models, of which one is in memory; the first answer calls a tool."""
    facts: tuple[tuple[int, str], ...] = ((134_515_008, "Q4_K_M"), (596_049_920, "Q8_0"))
    known = (
        msgspec.structs.replace(info, num_params=num_params, quant=quant)
        for info, (num_params, quant) in zip(MODELS, facts, strict=True)
    )
    backend = ScriptedBackend([ToolCallEvent(CALL), Finished("tool_calls", Usage())], models=tuple(known))
    backend.loaded[MODEL] = LoadedModel(MODEL, 1, 8192, 4, 8192, "CPU", bytes_by_device={"CPU": 180_000_000})
    return backend


async def summarising(say: Callable[[str], None]) -> str:
    """As far as it came."""
    say(SUMMARY)
    await asyncio.Event().wait()
    return SUMMARY


async def dialogs(host: Host, looks: Looks) -> None:
    """About a conversation, about its model, about what does not fit."""
    host.screen.post_message(Sidebar.MenuAsked(host.screen.open.id))
    await looks.over("conversation-menu", PickScreen, "down", "down")
    await host.screen.run_command("move")
    await looks.over("folders", PickScreen)
    await host.screen.run_command("title")
    await looks.over("line", LineScreen)
    host.screen.open.change(system=SYSTEM)
    await host.screen.run_command("system")
    await looks.over("text", TextScreen)
    says = "397 MB on disk; bytes that another model shares stay."
    host.app.push_screen(ConfirmScreen("Delete qwen3:0.6b?", says, yes="Delete"))
    await looks.over("confirm", ConfirmScreen)
    full = {"larger": "the model was made for 8,192 tokens, and has them"}
    host.app.push_screen(LimitScreen(Room(7_912, 8_192, 8_192), full))  # type: ignore[arg-type]
    await looks.over("limit", LimitScreen)
    host.app.push_screen(UnderWay[str]("Summarising 2 turns", summarising))
    await looks.over("under-way", UnderWay)
    await host.pilot.press("f4")
    await looks.over("pick-model", PickModelScreen)


async def comparison(host: Host, looks: Looks) -> None:
    """Two answers to one question, the first of them open."""
    host.app.push_screen(CompareScreen(*BRANCHES, open_leaf=2))
    await host.until(lambda: host.app.screen.query(BranchDiff))
    await looks.over("compare", CompareScreen)


async def asking(host: Host, looks: Looks) -> None:
    """A call that waits for a person's word, with the keys on it. What the clock measures is hidden."""
    await host.say("Write down where to go in Lisbon.")
    await host.until(lambda: any(card.state == "asking" for card in host.screen.query(ToolCard)))
    host.screen.query_one(GaugeBar).display = False
    host.screen.query(TurnFoot).last().display = False
    await host.pilot.press("ctrl+t")
    await looks.at("tool-asks")


def test_what_stands_over_the_chat_looks_as_it_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toolbox, "specs", lambda _self, _conversation: (TOOL,))
    monkeypatch.setattr(Toolbox, "needs_approval", lambda _self, _conversation, _name: True)

    async def story() -> None:
        fill(tmp_path / "chat.db")
        async with chat_host(tmp_path, backend=models(), size=(100, ROWS), conversation=0) as host:
            talks = {talk.title: talk.id for talk in host.history.conversations()}
            looks = Looks(host)
            await looks.at("new")
            host.screen.show_conversation(talks["Why is the sky blue?"])
            await dialogs(host, looks)
            await comparison(host, looks)
            host.screen.show_conversation(talks["Planning a week in Lisbon"])
            await asking(host, looks)
            assert looks.differing == []

    run(story())


def test_the_first_start_and_one_that_failed_look_as_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    database = Path("chat.db")
    database.write_bytes(b"SQLite format 3\x00" + b"rubbish" * 1000)

    async def story() -> None:
        async with chat_host(tmp_path, size=(100, ROWS), database=database) as host:
            looks = Looks(host)
            await host.until(lambda: isinstance(host.app.screen, OpeningScreen) and host.app.screen.focused)
            await looks.at("opening")
            listed = host.app.screen.query_one(OptionList)
            listed.highlighted = listed.get_option_index("without")
            await host.pilot.press("enter")
            await host.until(lambda: isinstance(host.app.screen, ChatScreen) and host.app.screen.focused)
            await looks.at("first")
            assert looks.differing == []

    run(story())


def test_plain_mode_looks_as_it_was_kept(tmp_path: Path) -> None:
    async def story() -> None:
        talk = fill(tmp_path / "chat.db")
        settings = ChatSettings(plain=True)
        differing: list[str] = []
        async with chat_host(tmp_path, settings=settings, size=(100, ROWS), conversation=talk) as host:
            for field in host.screen.query(TextArea):
                field.cursor_blink = False
            for name, columns in (("plain", 100), ("plain-narrow", 44)):
                await host.pilot.resize_terminal(columns, ROWS)
                differing.append(await difference(host.pilot, f"chat-{name}"))
                await host.screen.run_command("title")
                await host.until(lambda: isinstance(host.app.screen, LineScreen))
                host.app.screen.query_one(Input).cursor_blink = False
                differing.append(await difference(host.pilot, f"line-{name}"))
                await host.pilot.press("escape")
                await host.until(lambda: isinstance(host.app.screen, ChatScreen))
        assert not any(differing), differing

    run(story())
