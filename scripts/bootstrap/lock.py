"""One install at a time: an advisory lock on a file, released by the system when its holder dies."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def hold(path: Path, on_wait: Callable[[], None]) -> Iterator[IO[bytes]]:
    """Hold the lock at `path`, waiting for whoever holds it; `on_wait` is called once if there is a wait.

    Yields the open file. On POSIX a child that inherits its descriptor holds the lock too.
    """
    with path.open("a+b") as file:
        if not _try(file):
            on_wait()
            while not _try(file):
                time.sleep(0.2)
        yield file


def _try(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
