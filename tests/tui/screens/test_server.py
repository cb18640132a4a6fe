"""The server's screen: over a running daemon with a scripted Backend, and what it says when that goes away."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from localllm_tui.screens.server import ServerScreen
from localllm_tui.screens.server_figures import TokenRate, model_lines
from localllm_tui.widgets.request_table import RequestTable
from textual.widgets import Log, Static

from localllm.api import ChatRequest, Control, LoadedModel, LoadOptions, Message
from localllm.client import Client
from localllm.config import Settings
from tests.daemon.serving import ScriptedBackend, serving
from tests.tui.host import Host, chat_host, run

MODEL = LoadedModel("tiny", 7, 4096, 2, 8192, "CPU", bytes_by_device={"CPU": 5_000_000})


def made(model: LoadedModel, num_tokens: int) -> LoadedModel:
    return msgspec.structs.replace(model, num_output_tokens=num_tokens)


def test_the_rate_is_what_was_made_over_the_last_seconds() -> None:
    rate = TokenRate()
    assert rate.at(0) is None
    for second in range(10):
        rate.take(second, [made(MODEL, 40 * second)])
    assert rate.at(9) == pytest.approx(40)
    for second in range(10, 14):
        rate.take(second, [made(MODEL, 360)])
    assert rate.at(13) == 0


def test_a_model_that_comes_or_goes_is_no_speed() -> None:
    rate = TokenRate()
    rate.take(0, [])
    rate.take(1, [made(MODEL, 5000)])
    rate.take(2, [])
    rate.take(3, [made(msgspec.structs.replace(MODEL, pid=8), 3)])
    assert rate.at(3) == 0


def test_models_are_shown_with_what_they_take_and_do_and_no_escape_of_a_name() -> None:
    other = msgspec.structs.replace(MODEL, name="evil\x1b[2J", num_active=3, num_waiting=1, expires_in_s=240.0)
    text = model_lines([MODEL, other], 100).plain
    assert "5.0 MB" in text
    assert "2 running, 1 waiting" in text
    assert "leaves in 4 min" in text
    assert "\x1b" not in text
    assert "█" not in model_lines([MODEL], 100, plain=True).plain
    assert all(len(line) <= 20 for line in model_lines([MODEL, other], 20).plain.splitlines())


class Steerable(ScriptedBackend):
    """Says whom it was told to steer."""

    def __init__(self) -> None:
        super().__init__(Settings(), LoadOptions())
        self.steered: list[tuple[str, Control]] = []

    async def control(self, request_id: str, control: Control) -> bool:
        self.steered.append((request_id, control))
        return True


def words_of(host: Host, name: str) -> str:
    return str(host.app.screen.query_one(name, Static).render())


async def hang(client: Client, request_id: str) -> None:
    request = ChatRequest("tiny", (Message("user", "hang"),), request_id=request_id)
    async for _ in client.chat(request):
        pass


def test_requests_are_seen_and_stopped_and_a_daemon_that_goes_is_said(tmp_path: Path) -> None:
    async def story() -> None:
        backend = Steerable()
        with serving(backend) as daemon:
            client: Any = Client(daemon.url)
            async with chat_host(tmp_path, backend=client) as host:
                screen = ServerScreen(host.app.backend)
                await host.app.push_screen(screen)
                asking = asyncio.create_task(hang(Client(daemon.url), "the-one"))
                table = screen.query_one(RequestTable)
                await host.until(lambda: table.chosen is not None and table.chosen.state == "running")
                await host.until(lambda: "1 of 128 requests" in words_of(host, "#server-head"))
                assert not screen.query_one("#server-none").display
                await host.until(lambda: table.size.height >= 2)
                await host.until(lambda: "tiny" in words_of(host, "#server-models"))
                await host.pilot.press("p")
                await host.pilot.press("s")
                await host.until(lambda: backend.steered == [("the-one", "stop")])
                asking.cancel()
                await host.until(lambda: table.chosen is None)
                daemon.loop.call_soon_threadsafe(lambda: setattr(daemon.server._app.daemon, "is_draining", True))
                await host.until(lambda: "daemon" in words_of(host, "#server-trouble").lower())
                await host.pilot.resize_terminal(20, 10)
                await host.pilot.press("escape")
                await host.until(lambda: not isinstance(host.app.screen, ServerScreen))

    run(story())


def test_without_a_daemon_it_shows_what_this_process_runs(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path) as host:
            await host.say("hi")
            await host.until(lambda: "You said" in host.shown())
            await host.app.push_screen(ServerScreen(host.app.backend))
            await host.until(lambda: "smollm2:135m" in words_of(host, "#server-models"))
            await host.until(lambda: words_of(host, "#server-none") == "Nothing runs.")
            table = host.app.screen.query_one(RequestTable)
            await host.until(lambda: table.size.height == 0)
            await host.pilot.resize_terminal(40, 24)
            await host.until(lambda: table.outer_size.height == 0)
            log = host.app.screen.query_one(Log)
            await host.until(lambda: len(log.lines) > 1 and max(map(len, log.lines)) <= 40)
            assert log.scrollbar_size_horizontal == 0
            await host.pilot.press("down", "pagedown", "pageup", "end", "home", "right", "enter")
            assert "in this process" in words_of(host, "#server-head")

    run(story())
