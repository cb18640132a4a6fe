"""`localllm chat --web` in a real Chromium, and what it refuses everybody who has not the whole address."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.tui.browser import Page, browsing, skip_without_chromium

COMMAND = (sys.executable, "-P", "-m", "localllm", "chat")


class Served:
    """A running `--web`."""

    def __init__(self, child: subprocess.Popen[str], url: str) -> None:
        self.child = child
        self.url = url
        parts = urlsplit(url)
        assert parts.port is not None
        self.port, self.path = parts.port, parts.path

    def ask(self, path: str, **headers: str) -> int:
        """The status of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            return connection.getresponse().status
        finally:
            connection.close()

    def chats(self) -> list[int]:
        """The processes that it started."""
        listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
        return [pid for pid, parent in pairs if parent == self.child.pid]


@contextlib.contextmanager
def serving(*args: str) -> Iterator[Served]:
    child = subprocess.Popen([*COMMAND, *args, "--web"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), child.stderr.read() if child.stderr else ""
        yield Served(child, url)
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()


UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec_websocket_version": "13",
    "sec_websocket_key": "x" * 22 + "==",
}


def test_only_the_whole_address_from_this_machine_is_let_in() -> None:
    with serving() as served:
        own = f"http://127.0.0.1:{served.port}"
        assert served.ask(served.path) == 200
        assert served.ask(f"{served.path}static/js/textual.js") == 200
        refused = {
            "no token": served.ask("/"),
            "a wrong token": served.ask("/" + "x" * (len(served.path) - 2) + "/"),
            "its script": served.ask("/static/js/textual.js"),
            "its socket": served.ask("/ws", origin=own, **UPGRADE),
            "another name": served.ask(served.path, host=f"evil.example:{served.port}"),
            "another site": served.ask(served.path, origin="http://evil.example"),
            "a picture of another site": served.ask(served.path, sec_fetch_site="cross-site"),
            "a socket of another site": served.ask(f"{served.path}ws", origin="http://evil.example", **UPGRADE),
            "a socket of nobody": served.ask(f"{served.path}ws", **UPGRADE),
        }
        assert refused == dict.fromkeys(refused, 403)
        assert served.ask("/download/guess") == 404
        assert served.chats() == []
        served.child.send_signal(signal.SIGINT)
        assert served.child.wait(10) == 0


@contextlib.asynccontextmanager
async def in_browser(url: str) -> AsyncIterator[Page]:
    async with browsing() as page:
        await page.open(url)
        yield page


@pytest.mark.weights
@pytest.mark.skipif(os.name != "posix", reason="processes are listed by `ps`")
def test_a_chat_in_chromium(smollm2_path: Path) -> None:
    skip_without_chromium()

    async def story() -> None:
        with serving(
            str(smollm2_path), "--continue", "--local", "--max-tokens", "12", "--temperature", "0", "--seed", "1"
        ) as served:
            async with in_browser(served.url) as page:
                await page.until(lambda screen: "New conversation" in screen)
                await page.click(550, 350)
                await page.type("Say hello to Wuthering")
                await page.until(lambda screen: "Say hello to Wuthering" in screen)
                await page.press("Enter", 13)
                await page.until(lambda screen: screen.count("Wuthering") >= 1 and "tok" in screen, 60)
                assert {urlsplit(url).netloc for url in page.asked if not url.startswith("data:")} == {
                    f"127.0.0.1:{served.port}"
                }
                (chat,) = served.chats()
                await page.open("about:blank")
                await gone(chat)
            async with in_browser(served.url) as page:
                await page.until(lambda screen: "Wuthering" in screen)
                (chat,) = served.chats()
                served.child.kill()
                await gone(chat)

    asyncio.run(asyncio.wait_for(story(), 150))


async def gone(pid: int) -> None:
    """Wait until a process has ended."""
    deadline = time.monotonic() + 15
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        state = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout
        if not state.strip() or state.startswith("Z"):
            return
        assert time.monotonic() < deadline, f"{pid} still runs"
        await asyncio.sleep(0.1)
