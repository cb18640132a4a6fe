"""The daemon's log: where it lies, how it is written (rotated, private), and reading its end. Never a prompt in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from localllm import paths

MAX_BYTES = 4 << 20
NUM_KEPT = 3
_LOOK_S = 0.25
_BLOCK_BYTES = 1 << 16


def log_file() -> Path:
    """The usual place."""
    return paths.state_dir() / "daemon.log"


def log_to_file(path: Path | None = None) -> None:
    """Log what the daemon does from now on, requests as routes without their contents. What cannot be written is lost.

    Standard error gets what it got.
    """
    import io
    import logging
    import logging.handlers

    class Handler(logging.handlers.RotatingFileHandler):
        """A full disk or a file that somebody holds open stops no answer."""

        def _open(self) -> io.TextIOWrapper:
            return open(self.baseFilename, "a", encoding="utf-8", opener=_private)

        def handleError(self, record: logging.LogRecord) -> None:
            del record

    path = path or log_file()
    ours, root = logging.getLogger("localllm"), logging.getLogger()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handler = Handler(path, maxBytes=MAX_BYTES, backupCount=NUM_KEPT, encoding="utf-8", delay=True)
    except OSError as exc:
        ours.warning("no log is written: %s", exc)
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for other in root.handlers:
        other.setLevel(max(other.level, root.level))
    ours.setLevel(min(logging.INFO, root.level))
    ours.addHandler(handler)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log, fewer where it has no more. Raises OSError."""
    with path.open("rb") as file:
        at = file.seek(0, os.SEEK_END)
        data = b""
        while at and data.count(b"\n") <= count:
            size = min(_BLOCK_BYTES, at)
            at = file.seek(at - size)
            data = file.read(size) + data
    lines = data.decode("utf-8", "replace").splitlines()
    return lines[-count:] if count else []


def follow(path: Path) -> Iterator[str]:
    """New lines as they come, for ever; also after the log was rotated."""
    file = path.open("rb")
    file.seek(0, os.SEEK_END)
    rest = b""
    try:
        while True:
            data = file.read(_BLOCK_BYTES)
            if data:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    yield line.decode("utf-8", "replace")
                continue
            if _was_rotated(path, file.tell(), os.fstat(file.fileno())):
                file.close()
                file, rest = path.open("rb"), b""
                continue
            time.sleep(_LOOK_S)
    finally:
        file.close()


def _was_rotated(path: Path, at: int, state: os.stat_result) -> bool:
    try:
        now = path.stat()
    except OSError:
        return False
    return now.st_ino != state.st_ino or now.st_size < at
