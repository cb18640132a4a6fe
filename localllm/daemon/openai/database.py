"""One SQLite file for what the daemon keeps for its clients: answers, files, batches. Owns opening it, no rows.

WAL: what was committed survives the end of the process, however it ends. Only this user may read the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from localllm.daemon.context import Daemon
from localllm.errors import DiskFullError, StoreError

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")
_WAIT_S = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, previous TEXT, status TEXT NOT NULL,
    response BLOB NOT NULL, input BLOB NOT NULL, log BLOB, num_bytes INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS responses_by_age ON responses (created);
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, created INTEGER NOT NULL, filename TEXT NOT NULL, purpose TEXT NOT NULL,
    num_bytes INTEGER NOT NULL, expires INTEGER
);
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, created INTEGER NOT NULL, status TEXT NOT NULL, batch BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS batch_lines (
    batch TEXT NOT NULL, line INTEGER NOT NULL, is_error INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (batch, line)
) WITHOUT ROWID;
"""


class Database:
    """The file, opened when first used. Calls run one after another in a thread of its own."""

    def __init__(self, daemon: Daemon) -> None:
        self.path = daemon.state_dir / "openai.db"
        self._thread = ThreadPoolExecutor(1, "database")
        self._connection: sqlite3.Connection | None = None

    @property
    def is_there(self) -> bool:
        """Whether anything was ever kept."""
        return self.path.exists()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` in one transaction. Raises StoreError where the file cannot be used."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._in_thread, work)

    async def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
            self._connection = None
        self._thread.shutdown(wait=False)

    def _in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        import sqlite3

        try:
            if self._connection is None:
                self._connection = self._open()
            with self._connection as connection:
                return work(connection)
        except sqlite3.DatabaseError as exc:
            if "disk is full" in str(exc):
                raise DiskFullError(f"no room left for {self.path}", path=str(self.path)) from exc
            hint = "remove it to begin anew; stored answers, files and batches are lost then"
            raise StoreError(f"{self.path} cannot be used: {exc}", hint=hint) from exc
        except OSError as exc:
            raise StoreError(f"{self.path} cannot be used: {exc}") from exc

    def _open(self) -> sqlite3.Connection:
        import sqlite3

        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives the files beside it the rights of this one.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        with contextlib.suppress(OSError):
            self.path.chmod(0o600)
        connection = sqlite3.connect(self.path, timeout=_WAIT_S, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.executescript(_SCHEMA)
        return connection
