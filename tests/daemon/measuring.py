"""Measuring a daemon that runs as a program: its memory and files from outside, and times on a machine others use."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.daemon.program import Program
from tests.daemon.serving import raw_chat, read_all

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")


def anon_bytes(daemon: Program) -> int:
    """Memory of its own that a daemon holds."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    names = ("RssAnon", "VmSwap")
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(names))


def num_files(daemon: Program) -> int:
    """Files and sockets it has open."""
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait for a state of another process that cannot be awaited; returns after how many seconds it was there."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, what
        time.sleep(0.02)
    return time.monotonic() - began


def in_some_round(measure: Callable[[], str], num_rounds: int = 5) -> None:
    """A bound on times holds in one round of several: another program costs some of them, a defect fails them all.

    `measure` returns "" where it held, else what was measured.
    """
    said = []
    for _ in range(num_rounds):
        if not (failure := measure()):
            return
        said.append(failure)
    raise AssertionError("; ".join(said))


def percentile(times: Sequence[float], percent: float) -> float:
    """The time that so many percent do not exceed."""
    return sorted(times)[max(0, math.ceil(len(times) * percent / 100) - 1)]


def connected(daemon: Program) -> socket.socket:
    """A raw connection."""
    return socket.create_connection(("127.0.0.1", daemon.port), timeout=20)


def health_times(daemon: Program, num: int) -> list[float]:
    """Seconds of so many `/health`, one after the other on one connection; each is a 200."""
    times = []
    with connected(daemon) as sock:
        for _ in range(num):
            began = time.monotonic()
            sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            data = b""
            while not data.endswith(b"}"):
                piece = sock.recv(4096)
                assert piece, data
                data += piece
            times.append(time.monotonic() - began)
            assert data.startswith(b"HTTP/1.1 200 ")
    return times


def chat_times(daemon: Program, num: int, words: str = "echo hi") -> list[float]:
    """Seconds to the first word of so many streams, each on a connection of its own."""
    times = []
    for _ in range(num):
        with connected(daemon) as sock:
            began = time.monotonic()
            sock.sendall(raw_chat(words, stream=True))
            assert b" 200 " in sock.recv(4096)[:20]
            times.append(time.monotonic() - began)
    return times


def ask(daemon: Program, raw: bytes) -> bytes:
    """The whole answer to a request that closes its connection."""
    with connected(daemon) as sock:
        with contextlib.suppress(OSError):  # refused while it was still sent
            sock.sendall(raw)
        return read_all(sock)


def closing(raw: bytes) -> bytes:
    """A raw request, that closes its connection."""
    return raw.replace(b"Host: localhost", b"Connection: close\r\nHost: localhost")
