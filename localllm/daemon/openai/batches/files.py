"""Files: what clients upload and what batches make, below the state folder. Bounded; each client sees its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import msgspec

from localllm.daemon.context import Daemon
from localllm.daemon.errors import HttpError
from localllm.daemon.openai.database import Database
from localllm.errors import DiskFullError, StoreError

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")
_BINARY = getattr(os, "O_BINARY", 0)
MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_ALL_BYTES = 4 * 1024 * 1024 * 1024
MAX_FILES = 10_000
_STALE_S = 24 * 3600.0
_COLUMNS = "id, owner, created, filename, purpose, num_bytes, expires"


class StoredFile(msgspec.Struct, frozen=True, array_like=True):
    """A file's row, its fields in the order of the columns."""

    id: str
    owner: str
    created: int
    filename: str
    purpose: str
    num_bytes: int
    expires: int | None = None

    def insert(self, db: sqlite3.Connection) -> None:
        """Add or replace the row."""
        row = msgspec.structs.astuple(self)
        db.execute(f"INSERT OR REPLACE INTO files ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)


class Files:
    """The files of all clients. Made once for a daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._database = daemon.part(Database)
        self._folder = daemon.state_dir / "files"
        self._is_swept = False

    async def close(self) -> None:
        """Nothing goes on here."""

    def path(self, file_id: str) -> Path:
        """Where a file's bytes are."""
        return self._folder / file_id

    async def create(self, owner: str, pieces: AsyncIterator[bytes], *, filename: str, purpose: str) -> StoredFile:
        """Keep what `pieces` bring. Raises HttpError 413 and 507, DiskFullError, and what `pieces` raise."""
        await self._check_room()
        file_id = f"file-{secrets.token_hex(12)}"
        partial = self._folder / f".part-{file_id}"
        out = await asyncio.to_thread(self._open, partial)
        num_bytes = 0
        try:
            async for piece in pieces:
                num_bytes += len(piece)
                if num_bytes > MAX_FILE_BYTES:
                    raise HttpError(413, "file_too_large", f"the file is larger than {MAX_FILE_BYTES} bytes")
                await asyncio.to_thread(_in_words, out.write, piece)
            await asyncio.to_thread(_in_words, _finish, out, partial, self.path(file_id))
        finally:
            with contextlib.suppress(OSError):
                out.close()
                partial.unlink(missing_ok=True)
        stored = StoredFile(file_id, owner, int(time.time()), filename[:256] or "upload", purpose, num_bytes)
        await self._database.run(stored.insert)
        return stored

    async def expire(self, stored: StoredFile, seconds: int) -> StoredFile:
        """Have a file forgotten some time after it was made."""
        stored = msgspec.structs.replace(stored, expires=stored.created + seconds)
        await self._database.run(stored.insert)
        return stored

    async def get(self, file_id: str, owner: str) -> StoredFile:
        """A file's row. Raises HttpError 404."""

        def work(db: sqlite3.Connection) -> tuple[object, ...] | None:
            query = f"SELECT {_COLUMNS} FROM files WHERE id = ? AND owner = ?"
            row: tuple[object, ...] | None = db.execute(query, (file_id, owner)).fetchone()
            return row

        row = await self._database.run(work) if self._database.is_there else None
        if row is None:
            raise HttpError(404, "file_not_found", f"no file {file_id}")
        return msgspec.convert(row, StoredFile)

    async def list(self, owner: str) -> list[StoredFile]:
        """A client's files, the newest first."""

        def work(db: sqlite3.Connection) -> list[tuple[object, ...]]:
            query = f"SELECT {_COLUMNS} FROM files WHERE owner = ? ORDER BY created DESC, rowid DESC"
            return db.execute(query, (owner,)).fetchall()

        rows = await self._database.run(work) if self._database.is_there else []
        return [msgspec.convert(row, StoredFile) for row in rows]

    async def delete(self, file_id: str) -> None:
        """Forget a file."""
        await self._database.run(lambda db: db.execute("DELETE FROM files WHERE id = ?", (file_id,)).rowcount)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self.path(file_id).unlink, missing_ok=True)

    def write(self, file_id: str, lines: Iterable[bytes]) -> int:
        """In a thread: the file of that id, whole or not there; its size."""
        partial = self._folder / f".part-{file_id}"

        def work() -> int:
            with self._open(partial) as out:
                for line in lines:
                    out.write(line)
                num_bytes = out.tell()
                _finish(out, partial, self.path(file_id))
            return num_bytes

        return _in_words(work)

    async def _check_room(self) -> None:
        """Forget what has expired; refuse more than there may be."""

        def work(db: sqlite3.Connection) -> tuple[list[str], int, int]:
            expired = [row[0] for row in db.execute("SELECT id FROM files WHERE expires < ?", (time.time(),))]
            db.execute("DELETE FROM files WHERE expires < ?", (time.time(),))
            count, size = db.execute("SELECT count(*), coalesce(sum(num_bytes), 0) FROM files").fetchone()
            return expired, count, size

        expired, count, size = await self._database.run(work)
        for file_id in expired:
            with contextlib.suppress(OSError):
                self.path(file_id).unlink(missing_ok=True)
        if count >= MAX_FILES or size >= MAX_ALL_BYTES:
            raise HttpError(507, "too_many_files", f"{count} files of {size} bytes are kept", hint="delete some")

    def _open(self, path: Path) -> IO[bytes]:
        """In a thread: a new file that only this user may read."""

        def work() -> IO[bytes]:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_swept:
                self._is_swept = True
                _sweep(self._folder)
            return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o600), "wb")

        return _in_words(work)


def _sweep(folder: Path) -> None:
    """Remove what uploads of killed daemons left."""
    for path in folder.glob(".part-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()


def _finish(out: IO[bytes], partial: Path, path: Path) -> None:
    out.flush()
    os.fsync(out.fileno())
    out.close()
    os.replace(partial, path)


def _in_words(work: Callable[..., T], *args: object) -> T:
    """`work`, with the system's errors in ours."""
    try:
        return work(*args)
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            raise DiskFullError("no room left for the file") from exc
        raise StoreError(f"the file cannot be written: {exc.strerror or exc}") from exc
