"""A real HTTP server on this machine that serves files as hubs do, and misbehaves when told to."""

from __future__ import annotations

import hashlib
import re
import ssl
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Answer = Callable[["Request"], None]


@dataclass
class Served:
    """One file. `etag` None sends none; `ranges` False answers 200 to everything."""

    data: bytes
    etag: str | None = '"v1"'
    ranges: bool = True


@dataclass
class Seen:
    """One request as it came."""

    path: str
    query: str
    headers: dict[str, str]


class HubServer:
    """Files and answers by path, and what was asked. `faults[path]` answer once each, before the file does."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.answers: dict[str, Answer] = {}
        self.faults: defaultdict[str, deque[Answer]] = defaultdict(deque)
        self.seen: list[Seen] = []
        self.release = threading.Event()
        self.reached = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def add(self, path: str, data: bytes, **how: Any) -> str:
        """Serve a file; returns its sha256 in hex."""
        self.files[path] = Served(data, **how)
        return hashlib.sha256(data).hexdigest()

    def json(self, path: str, document: Any, status: int = 200, **headers: str) -> None:
        """Answer a path with a JSON document."""
        import json

        body = json.dumps(document).encode()
        self.answers[path] = lambda request: request.send(
            status, body, {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        )

    def paths(self) -> list[str]:
        """The paths asked for, in order."""
        return [seen.path for seen in self.seen]

    def count(self, seen: Seen) -> None:
        """Remember a request."""
        with self._lock:
            self.seen.append(seen)

    def use_tls(self, certificate: Path, key: Path) -> None:
        """Speak https from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def start(self) -> None:
        """Serve in a thread."""
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        """Let go of whoever waits, and end."""
        self.release.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def running_hub(*, tls: tuple[Path, Path] | None = None) -> Iterator[HubServer]:
    """A hub for the block. `tls`: its certificate and key."""
    hub = HubServer()
    if tls is not None:
        hub.use_tls(*tls)
    hub.start()
    try:
        yield hub
    finally:
        hub.close()


@dataclass
class Request:
    """One request, and the ways to answer it."""

    hub: HubServer
    handler: BaseHTTPRequestHandler
    path: str
    query: str
    headers: dict[str, str]
    file: Served | None = None
    range: tuple[int, int] | None = field(default=None)

    def send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """A whole answer."""
        self.start(status, {"Content-Length": str(len(body)), **(headers or {})})
        self.write(body)

    def start(self, status: int, headers: dict[str, str]) -> None:
        """Status and headers."""
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()

    def write(self, body: bytes) -> None:
        """Part of a body."""
        self.handler.wfile.write(body)
        self.handler.wfile.flush()

    def hang_up(self) -> None:
        """Close the connection after this answer."""
        self.handler.close_connection = True

    def serve(self, *, cut: int | None = None, stall: int | None = None) -> None:
        """The file, as asked for. `cut`: hang up after so many bytes. `stall`: wait for `hub.release` there."""
        assert self.file is not None
        data, status = self.file.data, 200
        headers = {} if self.file.etag is None else {"ETag": self.file.etag}
        if self.range is not None and self.file.ranges:
            start, last = self.range
            if start >= len(data):
                self.send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            last = min(last, len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{last}/{len(data)}"
            data, status = data[start : last + 1], 206
        self.start(status, {**headers, "Content-Length": str(len(data))})
        if cut is not None:
            self.write(data[:cut])
            self.hang_up()
        elif stall is not None:
            self.write(data[:stall])
            self.hub.reached.set()
            self.hub.release.wait(30)
            self.hang_up()
        else:
            self.write(data)


def cut(num_bytes: int) -> Answer:
    """Hang up after so many bytes of the body."""
    return lambda request: request.serve(cut=num_bytes)


def stall(num_bytes: int) -> Answer:
    """Send so many bytes of the body, then nothing until the hub is released."""
    return lambda request: request.serve(stall=num_bytes)


def status(code: int, **headers: str) -> Answer:
    """An empty answer with a status; underscores in header names are dashes."""
    return lambda request: request.send(code, b"", {k.replace("_", "-"): v for k, v in headers.items()})


def answer(code: int, body: bytes, headers: dict[str, str]) -> Answer:
    """Anything at all."""
    return lambda request: request.send(code, body, headers)


def redirect(url: str, code: int = 302) -> Answer:
    """Point elsewhere."""
    return lambda request: request.send(code, b"", {"Location": url})


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what these tests are about; anything else is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            hub.count(Seen(parts.path, parts.query, headers))
            request = Request(hub, self, parts.path, parts.query, headers, hub.files.get(unquote(parts.path)))
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
            request.range = (int(found[1]), int(found[2])) if found else None
            faults = hub.faults[parts.path]
            try:
                if faults:
                    faults.popleft()(request)
                elif (answer := hub.answers.get(parts.path)) is not None:
                    answer(request)
                elif request.file is not None:
                    request.serve()
                else:
                    request.send(404, b"not here")
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Tests print nothing."""

    return Handler
