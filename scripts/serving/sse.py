"""A streamed HTTP answer with the time of each piece, taken as cheaply as can be.

While an answer runs, a piece is only stamped and kept; HTTP's chunks, the SSE lines and their JSON are taken apart once
it is over: the client shares the cores with what it measures. Speaks HTTP/1.1, plain or TLS, one request a connection.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from serving.target import Mark

LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass(slots=True)
class Received:
    """The raw bytes of one answer as they came: (time, bytes)."""

    parts: list[tuple[float, bytes]] = field(default_factory=list)

    def split(self) -> tuple[int, dict[str, str], list[tuple[float, bytes]]]:
        """Status, headers (lower-case names) and the body's parts without HTTP's chunk framing."""
        raw, body_at = b"".join(part for _, part in self.parts), 0
        head, mark, _ = raw.partition(b"\r\n\r\n")
        if not mark:
            raise ConnectionError("the server closed the connection before its headers were complete")
        body_at = len(head) + 4
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        parts: list[tuple[float, bytes]] = []
        for at, data in self.parts:
            if len(data) > body_at:
                parts.append((at, data[body_at:]))
            body_at = max(0, body_at - len(data))
        if "chunked" in headers.get("transfer-encoding", "").lower():
            parts = _without_chunks(parts)
        return int(lines[0].split()[1]), headers, parts


def sse_data(parts: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """The payload of each `data:` line, with the time its end arrived."""
    found: list[tuple[float, bytes]] = []
    rest = b""
    for at, data in parts:
        *lines, rest = (rest + data).split(b"\n")
        found += [(at, line[5:].strip()) for line in lines if line.startswith(b"data:")]
    return found


def _without_chunks(parts: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """Take chunked transfer encoding away. Raises ConnectionError where it ends before its last chunk."""
    found: list[tuple[float, bytes]] = []
    buffer = b""
    left = 0  # bytes of the chunk under way, with its line end
    for at, data in parts:
        buffer += data
        while buffer:
            if left == 0:
                line, mark, after = buffer.partition(b"\r\n")
                if not mark:
                    break
                size = int(line.split(b";")[0], 16)
                if size == 0:
                    return found
                buffer, left = after, size + 2
            taken = buffer[:left]
            buffer, left = buffer[left:], left - len(taken)
            # The line end belongs to the frame; it may come in two parts.
            text = taken[: max(0, len(taken) - max(0, 2 - left))]
            if text:
                found.append((at, text))
    raise ConnectionError("the stream was cut before its end")


class _Exchange(asyncio.Protocol):
    """One request and its answer on one connection."""

    def __init__(self, request: bytes, mark: Mark | None, done: asyncio.Future[None]) -> None:
        self.received = Received()
        self._request = request
        self._mark = mark
        self._done = done
        self._missing: int | None = None
        self._seen_head = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        parts = self.received.parts
        parts.append((time.perf_counter(), data))
        if self._mark is not None and len(parts) > self._mark.num_pieces:
            self._mark.reached.set()
        if not self._seen_head:
            self._look_for_length()
        elif self._missing is not None:
            self._missing -= len(data)
        if data.endswith(LAST_CHUNK) or (self._missing is not None and self._missing <= 0):
            self._transport.close()

    def _look_for_length(self) -> None:
        """An answer with a length ends there, also on a server that keeps the connection open."""
        head, mark, body = b"".join(part for _, part in self.received.parts).partition(b"\r\n\r\n")
        self._seen_head = bool(mark)
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if mark and name.strip().lower() == b"content-length":
                self._missing = int(value) - len(body)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            if exc is None:
                self._done.set_result(None)
            else:
                self._done.set_exception(exc)


async def exchange(
    method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None, mark: Mark | None = None
) -> Received:
    """Send one request; return its whole answer as it arrived. Raises OSError. Cancelling closes the connection."""
    place = urlsplit(url)
    secure = place.scheme == "https"
    port = place.port or (443 if secure else 80)
    lines = [
        f"{method} {place.path or '/'} HTTP/1.1",
        f"Host: {place.netloc.rpartition('@')[2]}",
        "Connection: close",
        "Accept: */*",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    request = "\r\n".join([*lines, "", ""]).encode() + body
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    transport, protocol = await loop.create_connection(
        lambda: _Exchange(request, mark, done),
        place.hostname or "",
        port,
        ssl=ssl.create_default_context() if secure else None,
    )
    try:
        await done
    finally:
        transport.abort()
    assert isinstance(protocol, _Exchange)
    return protocol.received
