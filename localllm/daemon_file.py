"""How a running daemon is found: a private file in the state folder that says where it listens. Knows no HTTP client.

Reading it costs nothing where there is none, so that `localllm run` may always look.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

import msgspec

from localllm import paths

SCHEMA = 1
_PROBE_S = 0.25
_MAX_BYTES = 1 << 16


class DaemonFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A running daemon. `key` is one of its own making, for this user's commands, where it wants keys."""

    pid: int
    version: str
    url: str
    key: str | None = None
    schema: int = SCHEMA


def daemon_file() -> Path:
    """Where the file lies."""
    return paths.state_dir() / "daemon.json"


def write(daemon: DaemonFile, path: Path | None = None) -> None:
    """Say where this process listens. Raises StoreError."""
    from localllm.store.files import save_json

    path = path or daemon_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    save_json(daemon, path)


def remove(pid: int, path: Path | None = None) -> None:
    """Take the file away, unless another daemon has written its own since."""
    path = path or daemon_file()
    found = read(path)
    if found is not None and found.pid == pid:
        with contextlib.suppress(OSError):
            path.unlink()


def read(path: Path | None = None) -> DaemonFile | None:
    """What the file says; None where there is none, or one that others could have written."""
    try:
        with (path or daemon_file()).open("rb") as file:
            if not _is_private(os.fstat(file.fileno())):
                return None
            found = msgspec.json.decode(file.read(_MAX_BYTES), type=DaemonFile)
    except (OSError, msgspec.DecodeError):
        return None
    return found if found.schema == SCHEMA else None


def find(path: Path | None = None) -> DaemonFile | None:
    """The daemon of this user that answers now. Nothing of a person's is sent to find out."""
    found = read(path)
    if found is None or not _is_alive(found.pid) or not _answers(found.url):
        return None
    return found


def _is_private(state: os.stat_result) -> bool:
    if os.name != "posix":
        return True  # the folder is the user's own there
    return state.st_uid == os.geteuid() and not state.st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def _is_alive(pid: int) -> bool:
    """Whether that process is there and this user's: else somebody else may listen at the address by now."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return True


def _answers(url: str) -> bool:
    try:
        with _connect(url) as sock:
            sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            head = b""
            while b"\r\n\r\n" not in head and (piece := sock.recv(4096)):
                head += piece
    except (OSError, ValueError):
        return False
    return head.startswith(b"HTTP/1.1 200 ") and b"\nx-localllm:" in head.lower()


def _connect(url: str) -> socket.socket:
    if url.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(_PROBE_S)
        try:
            sock.connect(url.removeprefix("unix:"))
        except OSError:
            sock.close()
            raise
        return sock
    host, _, port = url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_S)
