"""Which programs that write answers are still running. Owns the small files beside the database that say so.

A program that streams holds an exclusive lock on a file of its own; the system gives the lock up with the process,
however that ends. SQLite does the locking, which is the same call on every system.
"""

from __future__ import annotations

import contextlib
import glob
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
        while self._token is None:
            token = secrets.token_hex(8)
            held = sqlite3.connect(self._file(token), isolation_level=None, check_same_thread=False)
            held.execute("BEGIN EXCLUSIVE")
            if self._file(token).exists():
                self._token, self._held = token, held
            else:  # `tidy` of another program was faster
                held.close()
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
                # While it is locked, so that nobody takes it up meanwhile; Windows has it closed first.
                _remove(file)
        except sqlite3.OperationalError:
            return False
        _remove(file)
        return True

    def tidy(self) -> None:
        """Remove the files of programs that were killed."""
        for file in self._database.parent.glob(f"{glob.escape(self._database.name)}-*.live"):
            self.is_gone(file.name.removeprefix(f"{self._database.name}-").removesuffix(".live"))

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
