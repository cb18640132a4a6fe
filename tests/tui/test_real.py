"""The chat over a real model: in this process, stopped, edited, branched, resumed; and killed while it streams."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from localllm_tui.history.history import History

from localllm.api import LoadOptions, SamplingParams
from localllm.config import Settings
from localllm.service import Service
from tests.tui.host import Host, chat_host, run

pytestmark = pytest.mark.weights

LOAD = LoadOptions(num_ctx=1024, num_slots=2, num_threads=1)
LONG = "Write a long story about a whale that sleeps."


def service(folder: Path) -> Service:
    return Service(Settings(store_dir=folder / "store", offline=True), load_options=LOAD)


async def answered(host: Host) -> None:
    await host.until(lambda: not host.screen.open.is_busy and host.screen.open.path[-1].role == "assistant")


def test_a_conversation_with_a_real_model(tmp_path: Path, smollm2_path: Path) -> None:
    async def first() -> list[str]:
        backend = service(tmp_path)
        few = SamplingParams(max_tokens=24, temperature=0)
        async with chat_host(tmp_path, backend=backend, model=str(smollm2_path), sampling=few) as host:
            opened = host.screen.open
            await host.say("Say hello.")
            await answered(host)
            [asked, answer] = opened.path
            assert answer.state == "complete"
            assert answer.content
            assert answer.stats is not None
            assert answer.stats.num_output_tokens > 0
            assert answer.stats.first_token_s is not None
            await host.until(lambda: host.screen.meter.gauges.num_ctx == 1024)
            assert host.screen.meter.gauges.num_used == answer.stats.num_prompt_tokens + answer.stats.num_output_tokens
            assert host.screen.meter.gauges.memory_bytes

            await host.pilot.press("ctrl+r")  # greedy: the same words, beside the first ones
            await host.until(lambda: opened.path[-1].id != answer.id)
            await answered(host)
            assert opened.path[-1].content == answer.content
            assert opened.place(opened.path[-1]) == (2, 2)

            host.screen.edit(asked)
            host.composer.text = "Say goodbye."
            await host.pilot.press("enter")
            await host.until(lambda: opened.path[0].content == "Say goodbye.")
            await answered(host)

            many = SamplingParams(max_tokens=400, temperature=0)
            opened.wishes = type(opened.wishes)(opened.wishes.model, many)
            await host.say(LONG)
            await host.until(lambda: len(opened.path) == 4 and len(opened.now()[-1].content) > 20)
            await host.pilot.press("escape")
            await answered(host)
            assert opened.path[-1].state == "stopped"
            assert opened.path[-1].stats is not None
            assert opened.path[-1].stats.num_output_tokens > 0  # ended in good order: the engine's figures are here
            await host.screen.run_command("branch")
            await host.until(lambda: host.screen.open is not opened)
            await host.pilot.press(*"unsent")
            await host.pilot.press("ctrl+q")
            return [node.content for node in host.screen.open.path]

    async def second(said: list[str]) -> None:
        few = SamplingParams(max_tokens=8, temperature=0)
        async with chat_host(tmp_path, backend=service(tmp_path), model=str(smollm2_path), sampling=few) as host:
            assert [node.content for node in host.screen.open.path] == said
            assert host.composer.text == "unsent"
            assert host.history.count() == 2
            await host.pilot.press("alt+g")
            await host.until(lambda: host.screen.open.path[-1].state == "complete")
            assert host.screen.open.path[-1].content.startswith(said[-1])

    run(second(run(first(), 120)), 120)


CHILD = """
import sys
from pathlib import Path
from localllm.api import LoadOptions, SamplingParams
from localllm.config import Settings
from localllm.service import Service
from localllm_tui.app import ChatApp
from localllm_tui.options import ChatOptions

folder, model = Path(sys.argv[1]), sys.argv[2]
options = ChatOptions(model=model, database=folder / "chat.db", sampling=SamplingParams(max_tokens=600, temperature=0))
load = LoadOptions(num_ctx=1024, num_slots=2, num_threads=1)
make = lambda: Service(Settings(store_dir=folder / "store", offline=True), load_options=load)
if __name__ == "__main__":
    ChatApp(make, options).run()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal of the POSIX kind")
def test_killed_while_it_streams_nothing_is_lost(tmp_path: Path, smollm2_path: Path) -> None:
    import pty

    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "LOCALLLM_HOME": str(tmp_path)}
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(smollm2_path)]
    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
    os.close(slave)
    try:
        os.set_blocking(master, False)
        _until(master, (tmp_path / "chat.db").exists)
        _until(master, lambda: b"nter sends" in _seen(master))
        os.write(master, LONG.encode() + b"\r")
        _until(master, lambda: len(_kept(tmp_path)) > 30)
        os.write(master, b"typed and not sent")
        _until(master, lambda: _draft(tmp_path) == "typed and not sent")
        child.send_signal(signal.SIGKILL)
        child.wait(20)
    finally:
        child.kill()
        child.wait(20)
        os.close(master)
    kept = _kept(tmp_path)
    assert len(kept) > 30

    async def again() -> None:
        async with chat_host(tmp_path, backend=service(tmp_path), model=str(smollm2_path)) as host:
            [asked, answer] = host.screen.open.path
            assert asked.content == LONG
            assert (answer.content, answer.state) == (kept, "stopped")
            assert host.composer.text == "typed and not sent"
            assert [node.id for node in host.history.interrupted()] == [answer.id]

    run(again())


_screens: dict[int, bytearray] = {}


def _seen(master: int) -> bytearray:
    """What the terminal was sent so far."""
    shown = _screens.setdefault(master, bytearray())
    try:
        while piece := os.read(master, 65536):
            shown += piece
    except BlockingIOError:
        pass
    return shown


def _until(master: int, so: Callable[[], object], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not so():
        assert time.monotonic() < deadline, bytes(_seen(master))[-2000:]
        _seen(master)
        time.sleep(0.02)


def _kept(folder: Path) -> str:
    return _ask(folder, "SELECT content FROM nodes WHERE role = 'assistant'")


def _draft(folder: Path) -> str:
    history = History(folder / "chat.db")
    try:
        return history.draft(history.last_open() or 0).text
    finally:
        history.close()


def _ask(folder: Path, query: str) -> str:
    connection = sqlite3.connect(f"file:{folder / 'chat.db'}?mode=ro", uri=True)
    try:
        row = connection.execute(query).fetchone()
        return "" if row is None else row[0]
    except sqlite3.Error:
        return ""
    finally:
        connection.close()
