"""The app as a whole: it opens before there is a Backend, says what it cannot open, and keeps everything."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from localllm_tui.app import ChatApp
from localllm_tui.history.history import History
from localllm_tui.options import ChatOptions
from localllm_tui.screens.chat import ChatScreen
from localllm_tui.screens.opening import OpeningScreen
from textual.widgets import OptionList

from localllm.api import Backend
from localllm.client import Client
from localllm.errors import ConfigError
from tests.daemon.program import Program, program
from tests.tui.host import MODEL, ScriptedBackend, chat_host, run, wait_until


def options(folder: Path) -> ChatOptions:
    return ChatOptions(model=MODEL, database=folder / "chat.db")


def test_one_types_before_there_is_a_backend(tmp_path: Path) -> None:
    async def story() -> None:
        made, backend = threading.Event(), ScriptedBackend(["A"])

        def make() -> Backend:
            assert made.wait(20)
            return backend

        app = ChatApp(make, options(tmp_path))
        async with app.run_test() as pilot:
            screen = app.screen
            assert isinstance(screen, ChatScreen)
            await pilot.press(*"hello", "enter")
            await wait_until(pilot, lambda: screen.open.path)
            await pilot.press(*"next")
            assert screen.composer.text == "next"
            made.set()
            await wait_until(pilot, lambda: [node.content for node in screen.open.path] == ["hello", "A"])
            await wait_until(pilot, lambda: not screen.open.is_busy)
        assert backend.is_closed

    run(story())


def test_a_backend_that_cannot_be_made_is_said_and_made_later(tmp_path: Path) -> None:
    async def story() -> None:
        backend = ScriptedBackend(["A"])
        tries: list[int] = []

        def make() -> Backend:
            tries.append(1)
            if len(tries) < 3:
                raise ConfigError("config.toml: num_ctx is no number", hint="mend it")
            return backend

        app = ChatApp(make, options(tmp_path))
        async with app.run_test() as pilot:
            screen = app.screen
            assert isinstance(screen, ChatScreen)
            error = "config.toml: num_ctx is no number\nmend it"
            await wait_until(pilot, lambda: error in [notice.message for notice in app._notifications])
            await wait_until(pilot, lambda: len(tries) >= 2)
            screen.open.change(title="x")
            await pilot.press(*"hello", "enter")
            await wait_until(pilot, lambda: screen.open.path)
            await wait_until(pilot, lambda: not screen.open.is_busy)
            if len(screen.open.path) == 1:
                await pilot.press("ctrl+r")
            await wait_until(pilot, lambda: [node.content for node in screen.open.path] == ["hello", "A"])

    run(story())


def test_a_conversation_that_is_gone_is_said_and_a_new_one_begins(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, conversation=77, text="typed", attached="piped\n") as host:
            assert host.screen.open.id == 0
            assert any("no conversation 77" in notice.message for notice in host.app._notifications)
            assert host.composer.text == "typed"
            (attached,) = host.composer.draft.attachments
            assert attached.text == "piped\n"

    run(story())


async def _choose(app: ChatApp, pilot: object, choice: str) -> None:
    listed = app.screen.query_one(OptionList)
    listed.highlighted = listed.get_option_index(choice)
    await pilot.press("enter")  # type: ignore[attr-defined]


def test_a_damaged_database_is_set_aside_and_carried_over(tmp_path: Path) -> None:
    (tmp_path / "chat.db").write_bytes(b"SQLite format 3\x00" + b"rubbish" * 1000)

    async def story() -> None:
        app = ChatApp(ScriptedBackend, options(tmp_path))
        async with app.run_test() as pilot:
            await wait_until(pilot, lambda: isinstance(app.screen, OpeningScreen))
            await pilot.pause()
            await _choose(app, pilot, "salvage")
            await wait_until(pilot, lambda: isinstance(app.screen, ChatScreen))
        assert len(list(tmp_path.glob("chat.db.damaged-*"))) == 1

    run(story())


def test_a_database_that_cannot_be_opened_leaves_ways_on(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "chat.db").mkdir()
        app = ChatApp(ScriptedBackend, options(tmp_path))
        async with app.run_test(size=(20, 10)) as pilot:
            await wait_until(pilot, lambda: isinstance(app.screen, OpeningScreen))
            await pilot.resize_terminal(80, 24)
            await pilot.pause()
            listed = app.screen.query_one(OptionList)
            assert [option.id for option in listed.options] == ["again", "without", "leave"]
            await _choose(app, pilot, "again")
            await wait_until(pilot, lambda: isinstance(app.screen, OpeningScreen) and app.screen.query(OptionList))
            await pilot.pause()
            await _choose(app, pilot, "without")
            await wait_until(pilot, lambda: isinstance(app.screen, ChatScreen))
            assert app.history.file.parent != tmp_path
        assert not app.history.file.exists()
        other = ChatApp(ScriptedBackend, options(tmp_path))
        async with other.run_test() as pilot:
            await wait_until(pilot, lambda: isinstance(other.screen, OpeningScreen))
            await pilot.pause()
            await _choose(other, pilot, "leave")
        assert other.return_code == 1

    run(story())


def test_nothing_heavy_is_imported_for_the_first_frame(tmp_path: Path) -> None:
    History(tmp_path / "chat.db").close()
    script = (
        "import sys, localllm_tui.app\n"
        "heavy = {'httpx', 'pygments', 'mcp', 'jinja2', 'numpy', 'llama_cpp', 'localllm.service', 'markdown_it'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    env = {**os.environ, "LOCALLLM_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, env=env
    )
    assert done.stdout.strip() == "[]"


def test_a_daemon_that_dies_in_the_middle_is_words_and_a_way_on(tmp_path: Path) -> None:
    async def story(first: Program) -> None:
        async with chat_host(tmp_path, backend=Client(first.url)) as host:
            opened = host.screen.open
            await host.say("slow 400")
            await host.until(lambda: "word3" in host.shown())
            first.process.kill()
            await host.until(lambda: not opened.is_busy)
            failed = opened.path[-1]
            assert failed.state == "failed"
            assert failed.content.startswith("word0 word1 word2 ")
            assert failed.error is not None
            assert failed.error.count("\n") == 1  # what happened, and what helps
            await host.pilot.press("ctrl+r")
            await host.until(lambda: opened.path[-1].id != failed.id and opened.path[-1].state == "failed")
            assert str(first.port) in (opened.path[-1].error or "")
            with program("--port", str(first.port)):
                host.screen.edit(opened.path[0])
                host.composer.text = "echo again"
                await host.pilot.press("enter")
                await host.until(lambda: [node.content for node in opened.path] == ["echo again", "again"])
                await host.until(lambda: not opened.is_busy)

    with program() as first:
        run(story(first))
