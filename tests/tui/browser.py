"""A real Chromium, driven over its DevTools protocol: opens a page, types, reads what xterm.js has on its screen."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--remote-debugging-port=0", "--remote-allow-origins=*", "--window-size=1100,700",
)  # fmt: skip
# The terminal is in a bundle that gives it to nobody; it is found by its shape among all objects of the page.
_FIND = """function() {
  window.__terminal = this.find(o => { try { return o.buffer && o.buffer.active && o.buffer.active.getLine && o.cols }
                                       catch { return false } });
  return Boolean(window.__terminal);
}"""
_SCREEN = """(() => { const t = window.__terminal, b = t.buffer.active, lines = [];
  for (let y = 0; y < t.rows; y++) lines.push(b.getLine(y + b.viewportY)?.translateToString(true) ?? "");
  return lines.join("\\n"); })()"""


def chromium() -> str | None:
    """Where a Chromium is installed."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next(filter(None, found), None)


def skip_without_chromium() -> None:
    """Skip by name; under CI that is a failure, because there they must run."""
    if chromium() is None:
        reason = "no Chromium: install the package `chromium`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class Page:
    """A page. `asked` are the addresses that it asked for, other than data of its own."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.asked: list[str] = []
        self.statuses: dict[str, int] = {}

    async def read(self) -> None:
        """Take in what the browser says, until it goes."""
        async for message in self._socket:
            data = message.json()
            if "id" in data:
                self._replies.pop(data["id"]).set_result(data)
            elif data["method"] == "Network.requestWillBeSent":
                self.asked.append(data["params"]["request"]["url"])
            elif data["method"] == "Network.webSocketCreated":
                self.asked.append(data["params"]["url"])
            elif data["method"] == "Network.responseReceived":
                response = data["params"]["response"]
                self.statuses[response["url"]] = response["status"]

    async def do(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol; its result."""
        number = next(self._ids)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        data: dict[str, Any] = await asyncio.wait_for(reply, 20)
        assert "error" not in data, data
        result: dict[str, Any] = data["result"]
        return result

    async def open(self, url: str) -> None:
        """Go to an address."""
        await self.do("Network.enable")
        await self.do("Page.enable")
        await self.do("Page.navigate", url=url)

    async def value(self, script: str) -> Any:
        """What a piece of JavaScript gives."""
        done = await self.do("Runtime.evaluate", expression=script, returnByValue=True)
        return done["result"].get("value")

    async def screen(self) -> str:
        """The text of the terminal in the page; empty as long as there is none."""
        if not await self.value("Boolean(window.__terminal)"):
            everything = await self.do("Runtime.evaluate", expression="Object.prototype")
            objects = await self.do("Runtime.queryObjects", prototypeObjectId=everything["result"]["objectId"])
            array = objects["objects"]["objectId"]
            found = await self.do("Runtime.callFunctionOn", objectId=array, functionDeclaration=_FIND)
            await self.do("Runtime.releaseObject", objectId=array)
            if not found["result"].get("value"):
                return ""
        return str(await self.value(_SCREEN))

    async def until(self, predicate: Callable[[str], object], limit_s: float = 30.0) -> str:
        """The screen, once it is as wanted."""
        deadline = time.monotonic() + limit_s
        while not predicate(screen := await self.screen()):
            assert time.monotonic() < deadline, f"still not so after {limit_s:g} s:\n{screen}"
            await asyncio.sleep(0.1)
        return screen

    async def click(self, x: float, y: float) -> None:
        """Press the left button there."""
        for kind in ("mousePressed", "mouseReleased"):
            await self.do("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def type(self, text: str) -> None:
        """Type text as from an input method."""
        await self.do("Input.insertText", text=text)

    async def press(self, key: str, code: int) -> None:
        """Press a key such as Enter, 13."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self.do("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)


@contextlib.asynccontextmanager
async def browsing() -> AsyncIterator[Page]:
    """A browser with one empty page, for the block."""
    program = chromium()
    assert program is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        quiet = subprocess.DEVNULL
        child = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={folder}", "about:blank"], stdout=quiet, stderr=quiet
        )
        try:
            port = await _port(Path(folder) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    pages = [target for target in await answer.json() if target["type"] == "page"]
                async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    page = Page(socket)
                    reading = asyncio.create_task(page.read())
                    try:
                        yield page
                    finally:
                        reading.cancel()
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


async def _port(file: Path) -> int:
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text().strip()):
        assert time.monotonic() < deadline, "Chromium does not start"
        await asyncio.sleep(0.05)
    return int(file.read_text().split()[0])
