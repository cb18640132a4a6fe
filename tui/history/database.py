"""The SQLite file: opened, brought up to date, its connections and their locks. Knows no rows.

WAL, so that reading never waits for writing and what was committed survives the end of the process, however it ends.
Every call is safe from any thread. Only this user may read the file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from localllm_tui.history import migrations
from localllm_tui.history.errors import HistoryError, translated

_WAIT_S = 5.0


class Database:
    """One writing connection, one for reading, one for searches, each used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer_lock = threading.RLock()
        self._reader_lock = threading.Lock()
        self._searcher_lock = threading.Lock()
        self._is_closed = False
        with translated(path):
            _make(path)
            self._writer = _connect(path)
            try:
                migrations.version(self._writer, path)
                self._writer.execute("PRAGMA journal_mode = WAL")
                self._writer.execute("PRAGMA synchronous = NORMAL")
                self._writer.execute("PRAGMA foreign_keys = ON")
                migrations.migrate(self._writer, path)
                self._reader = _connect(path)
                self._searcher = _connect(path)
            except BaseException:
                self._writer.close()
                raise

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """The writing connection in one transaction: all of what is done inside is kept, or nothing. Not nested."""
        with self._writer_lock, translated(self.path):
            self._check_open()
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                # A full disk has rolled back already.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees what is committed."""
        with self._reader_lock, translated(self.path):
            self._check_open()
            yield self._reader

    @contextlib.contextmanager
    def search(self) -> Iterator[sqlite3.Connection]:
        """The same for what may take longer, so that nobody else waits for it."""
        with self._searcher_lock, translated(self.path):
            self._check_open()
            yield self._searcher

    def close(self) -> None:
        """Wait for what is under way, then close. Once more is no harm."""
        with self._writer_lock, self._reader_lock, self._searcher_lock:
            if not self._is_closed:
                self._is_closed = True
                for connection in (self._searcher, self._reader, self._writer):
                    connection.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise HistoryError(f"{self.path} is closed", path=str(self.path), kind="unusable")


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        # SQLite gives the files beside it the rights of this one.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    return connection
