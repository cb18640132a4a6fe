"""Which programs that write answers are still running. Owns the small files beside the database that say so.

A program that streams holds an exclusive lock on a file of its own; the system gives the lock up with the process,
however that ends. SQLite does the locking, which is the same call on every system.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from pathlib import Path


class Presence:
    """This program's sign of life. Its file is made when `token` is first asked for."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._token: str | None = None
        self._held: sqlite3.Connection | None = None

    @property
    def token(self) -> str:
        """What stands beside the answers this program is writing."""
        if self._token is None:
            token = secrets.token_hex(8)
            self._held = sqlite3.connect(self._file(token), isolation_level=None, check_same_thread=False)
            self._held.execute("BEGIN EXCLUSIVE")
            self._token = token
        return self._token

    def is_gone(self, token: str) -> bool:
        """Whether the program of that token has ended; its file is removed then."""
        if token == self._token:
            return False
        file = self._file(token)
        if not file.exists():
            return True
        try:
            with contextlib.closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as probe:
                probe.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            return False
        _remove(file)
        return True

    def close(self) -> None:
        """This program writes no more answers."""
        if self._held is not None and self._token is not None:
            self._held.close()
            _remove(self._file(self._token))
        self._held = self._token = None

    def _file(self, token: str) -> Path:
        return self._database.with_name(f"{self._database.name}-{token}.live")


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()
