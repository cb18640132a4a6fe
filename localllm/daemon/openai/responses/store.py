"""ResponseStore: responses on disk, bounded by number, age and size. Rows in and out; runs nothing."""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from localllm.daemon.errors import HttpError
from localllm.daemon.openai.database import Database

if TYPE_CHECKING:
    import sqlite3

MAX_RESPONSES = 4096
MAX_BYTES = 256 * 1024 * 1024
MAX_AGE_S = 30 * 24 * 3600.0
MAX_CHAIN = 1000
_CUT_OFF = {"code": "server_error", "message": "the daemon ended while this was under way", "type": "restarted"}


class Stored(msgspec.Struct, frozen=True):
    """A response as it is kept, with the input items that are its own. `log` is its events, if it was streamed."""

    id: str
    owner: str
    created: float
    previous: str | None
    response: dict[str, Any]
    items: list[dict[str, Any]]
    log: list[bytes] | None = None


class ResponseStore:
    """Responses of all clients; each sees its own."""

    def __init__(self, database: Database, *, max_responses: int = MAX_RESPONSES, max_bytes: int = MAX_BYTES) -> None:
        self._database = database
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._is_mended = False

    async def put(self, stored: Stored) -> None:
        """Keep a response, in place of what it was before; the oldest make room."""
        log = None if stored.log is None else zlib.compress(b"".join(stored.log), 1)
        response, items = msgspec.json.encode(stored.response), msgspec.json.encode(stored.items)
        num_bytes = len(response) + len(items) + len(log or b"")
        status = stored.response["status"]
        row = (stored.id, stored.owner, stored.created, stored.previous, status, response, items, log, num_bytes)

        def work(db: sqlite3.Connection) -> None:
            self._mend(db)
            db.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            db.execute("DELETE FROM responses WHERE created < ?", (time.time() - MAX_AGE_S,))
            count, size = db.execute("SELECT count(*), sum(num_bytes) FROM responses").fetchone()
            if count > self._max_responses or size > self._max_bytes:
                self._make_room(db, count, size)

        await self._database.run(work)

    async def get(self, response_id: str, owner: str) -> Stored:
        """A response. Raises HttpError 404."""

        def work(db: sqlite3.Connection) -> Any:
            self._mend(db)
            query = "SELECT id, owner, created, previous, response, input, log FROM responses WHERE id = ?"
            return db.execute(query, (response_id,)).fetchone()

        row = await self._database.run(work) if self._database.is_there else None
        if row is None or row[1] != owner:
            raise not_found(response_id)
        _id, _owner, created, previous, response, items, log = row
        return Stored(
            response_id,
            owner,
            created,
            previous,
            msgspec.json.decode(response),
            msgspec.json.decode(items),
            _events(log),
        )

    async def chain(self, response_id: str, owner: str) -> list[Stored]:
        """A response and all it goes on from, the first one first. Raises HttpError 404 where one of them is gone."""
        found: list[Stored] = []
        wanted: str | None = response_id
        while wanted is not None:
            if len(found) >= MAX_CHAIN:
                raise HttpError(400, "invalid_request", f"a conversation of more than {MAX_CHAIN} responses")
            found.append(await self.get(wanted, owner))
            wanted = found[-1].previous
        return found[::-1]

    async def delete(self, response_id: str, owner: str) -> None:
        """Forget a response. Raises HttpError 404."""

        def work(db: sqlite3.Connection) -> int:
            return db.execute("DELETE FROM responses WHERE id = ? AND owner = ?", (response_id, owner)).rowcount

        if not self._database.is_there or not await self._database.run(work):
            raise not_found(response_id)

    def _mend(self, db: sqlite3.Connection) -> None:
        """Once: what was under way when an earlier daemon ended has failed."""
        if self._is_mended:
            return
        self._is_mended = True
        query = "SELECT id, response FROM responses WHERE status IN ('queued', 'in_progress')"
        for response_id, text in db.execute(query).fetchall():
            response = msgspec.json.decode(text) | {"status": "failed", "error": _CUT_OFF}
            db.execute(
                "UPDATE responses SET status = 'failed', response = ? WHERE id = ?",
                (msgspec.json.encode(response), response_id),
            )

    def _make_room(self, db: sqlite3.Connection, count: int, size: int) -> None:
        """Forget the oldest, down to nine tenths, so that not every new one looks for old ones."""
        for response_id, num_bytes in db.execute("SELECT id, num_bytes FROM responses ORDER BY created").fetchall():
            if count <= self._max_responses * 0.9 and size <= self._max_bytes * 0.9:
                return
            db.execute("DELETE FROM responses WHERE id = ?", (response_id,))
            count, size = count - 1, size - num_bytes


def not_found(response_id: str) -> HttpError:
    """No such response, or somebody else's."""
    return HttpError(404, "response_not_found", f"no response {response_id}", hint="it may be too old, or not stored")


def _events(log: bytes | None) -> list[bytes] | None:
    return None if log is None else [part + b"\n\n" for part in zlib.decompress(log).split(b"\n\n")[:-1]]
