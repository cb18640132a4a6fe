"""HttpProtocol: one connection. uvicorn's h11 protocol with deadlines, stricter parsing, and a closing that is heard.

Owns when a connection has taken too long or sent too much; the app behind it sees whole, sane requests only. What the
app and its streams need of a connection stands in `scope["state"]["connection"]`, which is this object.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import h11
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

from localllm.daemon.limits import Limits

_BARE_LF = re.compile(rb"(?<!\r)\n")
_HEAD_END = b"\r\n\r\n"
# What the client's machine has not acknowledged for so long is gone (milliseconds; Linux). The system also counts the
# time in which a client takes nothing, so it is long: streams look themselves for clients that vanished (`unheard_s`).
_USER_TIMEOUT_MS = 70_000
# Where in Linux's struct tcp_info: segments on their way, milliseconds since the last acknowledgement.
_UNACKED_AT, _LAST_ACK_AT, _TCP_INFO_BYTES = 24, 56, 60
_SEND_BUFFER_BYTES = 64 * 1024


class Refusal(h11.RemoteProtocolError):
    """A request head that h11 would take and this server does not."""


class _Parser(h11.Connection):
    """h11 with limits it does not have. `status` and `reason` are what the last error is answered with."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(h11.SERVER, limits.header_bytes)
        self._limits = limits
        self.status = 400
        self.reason = ""
        self.has_target = False
        self.is_pipelined = False

    def next_event(self) -> Any:
        """The next event; raises RemoteProtocolError, with `status` and `reason` set."""
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self._check(event)
        except h11.RemoteProtocolError as exc:
            self.status = exc.error_status_hint if exc.error_status_hint in (414, 431) else 400
            if self.status == 431 and not self.has_target:
                self.status = 414
            self.reason = str(exc)
            raise
        if event is h11.PAUSED:
            self.is_pipelined = True
        return event

    def _check(self, request: h11.Request) -> None:
        headers = request.headers
        names = [name for name, _value in headers]
        num_bytes = sum(len(name) + len(value) + 4 for name, value in headers)
        if len(request.target) > self._limits.target_bytes:
            raise Refusal("the path is too long", 414)
        if len(names) > self._limits.num_headers or num_bytes > self._limits.header_bytes:
            raise Refusal("too many headers", 431)
        if names.count(b"content-length") + names.count(b"transfer-encoding") > 1:
            raise Refusal("two lengths of one body")
        if not request.target.startswith(b"/"):
            raise Refusal("the target is no path")


class HttpProtocol(H11Protocol):
    """One client's connection."""

    def __init__(self, config: Config, state: ServerState, limits: Limits) -> None:
        super().__init__(config, state, {"connection": self}, asyncio.get_running_loop())
        self.conn: _Parser = _Parser(limits)
        self.access_log = False
        self.limits = limits
        self.is_lost = False
        self.on_lost: Callable[[], object] | None = None
        self.on_writable: Callable[[], object] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._tail = b""
        self._has_head_bytes = False
        self._is_deaf = False
        self._body_began = 0.0
        self._last_heard = 0.0
        self._num_written = 0

    # --- what a stream uses ---------------------------------------------------------------------------------------

    @property
    def is_writable(self) -> bool:
        """Whether what is written now goes out soon."""
        return not self.flow.write_paused

    @property
    def num_buffered(self) -> int:
        """Bytes written that the system has not taken yet."""
        return self.transport.get_write_buffer_size()

    @property
    def num_taken(self) -> int:
        """Bytes of bodies that the system has taken, and perhaps of heads."""
        return self._num_written - self.transport.get_write_buffer_size()

    @property
    def unheard_s(self) -> float:
        """Seconds in which what was sent was not acknowledged by the client's machine; 0 where that is not known."""
        sock = self.transport.get_extra_info("socket")
        if not hasattr(socket, "TCP_INFO") or sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return 0.0
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            return 0.0
        (num_unacked,) = struct.unpack_from("I", info, _UNACKED_AT)
        return struct.unpack_from("I", info, _LAST_ACK_AT)[0] / 1000 if num_unacked else 0.0

    @property
    def waits_for_head(self) -> bool:
        """Whether no request of this client is under way."""
        return self.conn.their_state is h11.IDLE and not self._is_deaf

    def write(self, data: bytes) -> None:
        """Write a piece of the body whose response has begun."""
        if self.is_lost or self.transport.is_closing():
            return
        wire = self.conn.send(h11.Data(data=data))
        assert wire is not None
        self._num_written += len(wire)
        self.transport.write(wire)

    def abort(self) -> None:
        """Drop the client, and what it has not read."""
        self.transport.abort()

    # --- asyncio's calls ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the first deadline."""
        super().connection_made(transport)
        # Less in the system's hands: a stream knows sooner that its client reads slowly.
        transport.set_write_buffer_limits(high=32 * 1024, low=8 * 1024)
        _tune(transport.get_extra_info("socket"))
        self._arm(self.limits.header_s, self._on_late_head)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless this client has said all that is listened to."""
        if self._is_deaf:
            return
        self._last_heard = self.loop.time()
        self._refresh_date()
        if self.conn.their_state is h11.IDLE:
            if self._has_head_bytes is False:
                self._has_head_bytes = True
                if self._deadline is None:
                    self._arm(self.limits.header_s, self._on_late_head)
            if self._has_bare_lf(data):
                self._refuse(400, "a line of the head ends without CR")
                return
        super().data_received(data)
        self._after_parsing()

    def handle_events(self) -> None:
        """Hand complete requests to the app."""
        super().handle_events()
        if self.conn.is_pipelined and not self._is_deaf:
            # Nothing may wait unread behind a request: the end of the connection would go unnoticed.
            self._is_deaf = True
            self.flow.resume_reading()
            if self.cycle is not None:
                self.cycle.keep_alive = False

    def eof_received(self) -> None:
        """A client that will send no more is gone: its answers are not computed for nobody."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request under way, at once."""
        self.is_lost = True
        self._disarm()
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def resume_writing(self) -> None:
        """The client has read: let its stream go on."""
        super().resume_writing()
        if self.on_writable is not None:
            self.on_writable()

    def on_response_complete(self) -> None:
        """A response is written: wait for the next request, or close where the last one was left half unread."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.SEND_BODY:
            self._linger()
        elif self.conn.their_state is h11.IDLE:
            self._tail, self._has_head_bytes, self.conn.has_target = b"", False, False

    def send_400_response(self, msg: str) -> None:
        """Answer what is no sound request. Called by uvicorn for whatever the parser refuses."""
        self._refuse(self.conn.status, self.conn.reason or msg)

    # --- deadlines ------------------------------------------------------------------------------------------------

    def _after_parsing(self) -> None:
        """After each piece of input: which deadline holds now?"""
        state = self.conn.their_state
        if self._is_deaf or state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED, h11.ERROR):
            self._disarm()
            self._body_began = 0.0
        elif state is h11.SEND_BODY and not self._body_began:
            self._body_began = self._last_heard
            self._arm(self.limits.body_idle_s, self._on_body_time)

    def _on_late_head(self) -> None:
        if self._has_head_bytes:
            self._refuse(408, "the head of the request took too long")
        else:
            self.transport.close()

    def _on_body_time(self) -> None:
        now, limits = self.loop.time(), self.limits
        left_s = min(self._last_heard + limits.body_idle_s, self._body_began + limits.body_s) - now
        if left_s > 0.001:
            self._arm(left_s, self._on_body_time)
        elif self.cycle is None or not self.cycle.response_started:
            self._refuse(408, "the body of the request took too long")
        else:
            self.transport.close()

    def _arm(self, seconds: float, then: Callable[[], None]) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # --- refusing and closing -------------------------------------------------------------------------------------

    def _refuse(self, status: int, message: str) -> None:
        """Answer in the app's place and close; a request under way is told that its client is gone."""
        if self.transport.is_closing() or self._is_deaf:
            return
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
            return
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": "bad_http"}
        body = msgspec.json.encode({"error": error})
        head = [b"HTTP/1.1 %d %b" % (status, STATUS_PHRASES[status]), b"content-type: application/json"]
        head += [b"content-length: %d" % len(body), b"connection: close"]
        self.transport.write(b"\r\n".join(head) + _HEAD_END + body)
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._linger()

    def _linger(self) -> None:
        """Close, but let the client finish sending: a reset would take the answer away from it."""
        self._is_deaf = True
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._arm(self.limits.linger_s, self.transport.abort)

    def _has_bare_lf(self, data: bytes) -> bool:
        """Whether a line of the head ends in LF alone, which other servers read differently."""
        self.conn.has_target = self.conn.has_target or b"\n" in data
        seen = len(self._tail)
        joined = self._tail + data
        end = joined.find(_HEAD_END)
        self._tail = joined[-3:]
        return _BARE_LF.search(joined, seen, end + 4 if end >= 0 else len(joined)) is not None

    def _refresh_date(self) -> None:
        now = int(time.time())
        if now != getattr(self.server_state, "date_s", 0):
            self.server_state.date_s = now  # type: ignore[attr-defined]
            self.server_state.default_headers = [(b"date", formatdate(now, usegmt=True).encode())]


def _tune(sock: socket.socket | None) -> None:
    """Notice peers that vanished, and keep the system's buffer small. Options a system lacks are left out."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    for name, value in (("TCP_USER_TIMEOUT", _USER_TIMEOUT_MS), ("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10)):
        if (option := getattr(socket, name, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
