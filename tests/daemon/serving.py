"""A daemon to test: the real server on a loopback port, in a thread of its own, over the scripted Backend."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from localllm.api import Backend, ChatRequest, Event, LoadOptions, TextDelta
from localllm.config import Settings
from localllm.daemon.limits import Limits
from localllm.daemon.run import ServeOptions, make_app
from localllm.daemon.server import Server
from tests.cli.fake_backend import FakeBackend

CHAT = "/v1/chat/completions"


class ScriptedBackend(FakeBackend):
    """FakeBackend, that says when a stream was closed early and how many events were taken from it."""

    def __init__(self, settings: Settings, load_options: LoadOptions) -> None:
        super().__init__(settings, load_options)
        self.closed = threading.Event()
        self.begun = threading.Event()
        self.num_taken = 0

    async def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        self.begun.set()
        try:
            async for event in super().chat(request):
                self.num_taken += 1
                yield event
        finally:
            if "closed" in self.log:
                self.closed.set()


class Torrent(ScriptedBackend):
    """Streams without end or pause, `size` characters an event; counts how many were taken."""

    size = 4

    async def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        if request.messages[-1].content != "torrent":
            async for event in super().chat(request):
                yield event
            return
        self.begun.set()
        try:
            while True:
                for _ in range(64):
                    self.num_taken += 1
                    yield TextDelta("x" * self.size)
                await asyncio.sleep(0)
        finally:
            self.closed.set()


def torrent(size: int) -> Torrent:
    """A Backend that answers `torrent` with events of so many characters, as fast as they are taken."""
    backend = Torrent(Settings(), LoadOptions())
    backend.size = size
    return backend


@dataclass
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """A running daemon."""

    server: Server
    backend: Any
    loop: asyncio.AbstractEventLoop
    port: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, /, **headers: str) -> Answer:
        """One request on a connection of its own; a dict is sent as JSON. Underscores in header names are dashes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            named = {"content-type": "application/json", **named}
        try:
            connection.request(method, path, body, named)
            got = connection.getresponse()
            return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())
        finally:
            connection.close()

    def chat(self, words: str, /, **fields: Any) -> Answer:
        """Ask the script; see FakeBackend for its words."""
        return self.ask("POST", CHAT, chat_body(words, **fields))

    def connect(self) -> socket.socket:
        """A raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def begin(self, words: str, /, **fields: Any) -> socket.socket:
        """A raw connection on which a chat was asked for."""
        sock = self.connect()
        sock.sendall(raw_chat(words, **fields))
        return sock

    def is_alive(self) -> bool:
        return self.ask("GET", "/health").status == 200


def chat_body(words: str, /, **fields: Any) -> dict[str, Any]:
    return {"model": "smollm2:135m", "messages": [{"role": "user", "content": words}], **fields}


def raw_chat(words: str, /, **fields: Any) -> bytes:
    body = json.dumps(chat_body(words, **fields)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def read_all(sock: socket.socket) -> bytes:
    """What comes until the other side closes; a reset counts as its end."""
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            data += piece
    return bytes(data)


@contextlib.contextmanager
def serving(
    backend: Backend | None = None, /, options: ServeOptions | None = None, own_key: str | None = None, **limits: Any
) -> Iterator[Served]:
    """A daemon for the block. `limits` are those of Limits that differ. What it keeps goes with it."""
    backend = backend or ScriptedBackend(Settings(), LoadOptions())
    options = options or ServeOptions(host="127.0.0.1", port=0, default_model="smollm2:135m")
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    options = msgspec.structs.replace(
        options,
        limits=msgspec.structs.replace(Limits(), **limits),
        state_dir=options.state_dir or Path(folder.name) / "state",
    )
    ready: threading.Event = threading.Event()
    served: list[Served] = []
    stop: list[asyncio.Event] = []

    async def main() -> None:
        app = make_app(backend, options, own_key)
        server = Server(app)
        await server.start_tcp("127.0.0.1", 0)
        app.start()
        here = Served(server, backend, asyncio.get_running_loop(), server.port)
        here.loop.set_exception_handler(lambda _loop, context: here.failures.append(context))
        stop.append(asyncio.Event())
        served.append(here)
        ready.set()
        await stop[0].wait()
        await server.drain()
        await backend.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(10), "the daemon did not start"
    try:
        yield served[0]
    finally:
        served[0].server._limits = msgspec.structs.replace(options.limits, drain_s=0.2)
        served[0].loop.call_soon_threadsafe(stop[0].set)
        thread.join(10)
        folder.cleanup()
    assert not thread.is_alive(), "the daemon did not end"
    assert not served[0].failures
