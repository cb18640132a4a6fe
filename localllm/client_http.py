"""HTTP as `Client` needs it: one request a connection, over TCP, TLS or a unix socket, bodies as they come.

Over asyncio and h11 and not httpx, which takes longer to import than a warm daemon takes to answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import h11

from localllm.errors import ConfigError, DaemonUnreachableError

CONNECT_S = 5.0
_READ_BYTES = 1 << 16
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?(?P<base>/[^?#]*)?"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon listens: a host and port, or a unix socket. `base` stands before every path."""

    name: str
    host: str = "localhost"
    port: int = 0
    base: str = ""
    is_tls: bool = False
    socket: str | None = None

    @property
    def host_header(self) -> str:
        """What the Host header says."""
        return "localhost" if self.socket is not None else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> Address:
        """The address of `http://HOST[:PORT][/BASE]`, `https://...` or `unix:PATH`. Raises ConfigError."""
        if url.startswith("unix:"):
            path = url.removeprefix("unix:").removeprefix("//")
            if path:
                return cls(url, socket=path)
        parts = _URL.fullmatch(url)
        if parts is None:
            hint = "such as http://127.0.0.1:11435, or unix:/path/of/socket"
            raise ConfigError(f"{url!r} is no address of a daemon", hint=hint)
        is_tls = parts["scheme"] == "https"
        port = int(parts["port"] or (443 if is_tls else 80))
        return cls(url, parts["host"], port, (parts["base"] or "").rstrip("/"), is_tls)


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes to be sent as they come; `size_bytes` where it is known."""

    pieces: AsyncIterator[bytes]
    size_bytes: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What says how long it is."""
        length = (
            {"transfer-encoding": "chunked"} if self.size_bytes is None else {"content-length": str(self.size_bytes)}
        )
        return {"content-type": "application/octet-stream", **length}


@dataclass(slots=True)
class Response:
    """An answer whose head has come. `body` yields its bytes as they come."""

    status: int
    headers: dict[str, str]
    body: AsyncIterator[bytes] = field(repr=False)

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([piece async for piece in self.body])


@contextlib.asynccontextmanager
async def exchange(
    address: Address,
    method: str,
    path: str,
    body: bytes | None,
    *,
    headers: dict[str, str],
    silence_s: float | None = None,
    upload: Upload | None = None,
) -> AsyncIterator[Response]:
    """Send a request; the connection is closed at the end of the block, which ends what the daemon does for it.

    `upload` is a body that is sent as it comes, in place of `body`.

    Raises DaemonUnreachableError where nobody answers, where the connection breaks, and after `silence_s` without a
    byte (None: however long it takes).
    """
    reader, writer = await _connect(address)
    try:
        wire = _Wire(address, h11.Connection(h11.CLIENT), reader, silence_s)
        fields = {"host": address.host_header, "connection": "close", **headers}
        if body is not None:
            fields |= {"content-type": "application/json", "content-length": str(len(body))}
        if upload is not None:
            fields |= upload.headers
        request = h11.Request(method=method, target=address.base + path, headers=list(fields.items()))
        if upload is None:
            writer.write(b"".join(wire.connection.send(event) or b"" for event in _events(request, body)))
        else:
            await _send(wire, writer, request, upload)
        head = await wire.next_event()
        while isinstance(head, h11.InformationalResponse):
            head = await wire.next_event()
        if not isinstance(head, h11.Response):
            raise wire.broken("it closed the connection")
        named = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        yield Response(head.status_code, named, wire.body())
    finally:
        writer.close()


async def _send(wire: _Wire, writer: asyncio.StreamWriter, request: h11.Request, upload: Upload) -> None:
    """Send a body as it comes. A daemon that answers before its end has heard enough: its answer is read then."""
    try:
        writer.write(wire.connection.send(request) or b"")
        async for piece in upload.pieces:
            writer.write(wire.connection.send(h11.Data(data=piece)) or b"")
            await writer.drain()
        writer.write(wire.connection.send(h11.EndOfMessage()) or b"")
    except OSError:
        return
    except h11.LocalProtocolError as exc:
        raise wire.broken(f"the body is not of the size that was said: {exc}") from exc


def _events(request: h11.Request, body: bytes | None) -> list[h11.Event]:
    return [request, *([h11.Data(data=body)] if body else []), h11.EndOfMessage()]


class _Wire:
    """One connection's answer."""

    def __init__(
        self, address: Address, connection: h11.Connection, reader: asyncio.StreamReader, silence_s: float | None
    ) -> None:
        self.connection = connection
        self._address = address
        self._reader = reader
        self._silence_s = silence_s

    async def next_event(self) -> h11.Event | type[h11.PAUSED]:
        """The next thing the daemon says."""
        try:
            while (event := self.connection.next_event()) is h11.NEED_DATA:
                async with asyncio.timeout(self._silence_s):
                    data = await self._reader.read(_READ_BYTES)
                self.connection.receive_data(data)
        except TimeoutError as exc:
            raise self.broken(f"it said nothing for {self._silence_s:.0f} s") from exc
        except (OSError, h11.RemoteProtocolError) as exc:
            raise self.broken("the connection broke") from exc
        return event  # type: ignore[return-value]

    async def body(self) -> AsyncIterator[bytes]:
        """The pieces of the body."""
        while isinstance(event := await self.next_event(), h11.Data):
            yield bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            raise self.broken("the answer was cut")

    def broken(self, what: str) -> DaemonUnreachableError:
        """The error for a daemon that went away."""
        return DaemonUnreachableError(f"the daemon at {self._address.name} is gone: {what}", hint="is it running?")


async def _connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(CONNECT_S):
            if address.socket is not None:
                if sys.platform == "win32":
                    raise ConfigError("unix sockets are not available on this system", hint="use a port")
                return await asyncio.open_unix_connection(address.socket)
            context = ssl.create_default_context() if address.is_tls else None
            return await asyncio.open_connection(address.host.strip("[]"), address.port, ssl=context)
    except (OSError, TimeoutError) as exc:
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else "it does not answer"
        hint = "`localllm serve` starts one"
        raise DaemonUnreachableError(f"no daemon at {address.name}: {why}", hint=hint) from exc
