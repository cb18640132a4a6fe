"""BatchStore: batches and their answered lines as rows. An answered line is one commit, so it is there once or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from localllm.daemon.errors import HttpError
from localllm.daemon.openai.batches.files import Files, StoredFile
from localllm.daemon.openai.database import Database

if TYPE_CHECKING:
    import sqlite3

UNFINISHED = ("validating", "in_progress", "finalizing", "cancelling")
MAX_BATCHES = 1000
_PAGE_LINES = 500
Batch = dict[str, Any]


class BatchStore:
    """Batches of all clients; each sees its own. A Batch is the JSON object that clients get."""

    def __init__(self, database: Database, files: Files) -> None:
        self._database = database
        self._files = files

    async def put(self, batch: Batch, owner: str) -> None:
        """Add a batch. Old finished ones make room. Raises HttpError 507 where all are unfinished."""

        def work(db: sqlite3.Connection) -> None:
            (count,) = db.execute("SELECT count(*) FROM batches").fetchone()
            if count >= MAX_BATCHES:
                query = f"SELECT id FROM batches WHERE status NOT IN {UNFINISHED} ORDER BY rowid LIMIT 1"
                oldest = db.execute(query).fetchone()
                if oldest is None:
                    raise HttpError(507, "too_many_batches", f"{count} batches are unfinished")
                db.execute("DELETE FROM batches WHERE id = ?", oldest)
            row = (batch["id"], owner, batch["created_at"], batch["status"], msgspec.json.encode(batch))
            db.execute("INSERT INTO batches (id, owner, created, status, batch) VALUES (?, ?, ?, ?, ?)", row)

        await self._database.run(work)

    async def change(self, batch_id: str, only_if: Iterable[str], **fields: Any) -> Batch:
        """Set fields of a batch whose status is one of `only_if`; the batch as it is then."""

        def work(db: sqlite3.Connection) -> Batch:
            batch = _batch(db, batch_id)
            assert batch is not None
            if batch["status"] in only_if:
                batch |= fields
                _save(db, batch)
            return batch

        return await self._database.run(work)

    async def get(self, batch_id: str, owner: str) -> Batch:
        """A batch. Raises HttpError 404."""

        def work(db: sqlite3.Connection) -> Batch | None:
            return _batch(db, batch_id, owner)

        batch = await self._database.run(work) if self._database.is_there else None
        if batch is None:
            raise HttpError(404, "batch_not_found", f"no batch {batch_id}")
        return batch

    async def list(self, owner: str) -> list[Batch]:
        """A client's batches, the newest first."""

        def work(db: sqlite3.Connection) -> list[Batch]:
            rows = db.execute("SELECT id FROM batches WHERE owner = ? ORDER BY rowid DESC", (owner,)).fetchall()
            return [batch for row in rows if (batch := _batch(db, row[0])) is not None]

        return await self._database.run(work) if self._database.is_there else []

    async def next_unfinished(self) -> tuple[Batch, str] | None:
        """The oldest batch with work left, and whose it is."""

        def work(db: sqlite3.Connection) -> tuple[Batch, str] | None:
            query = f"SELECT id, owner FROM batches WHERE status IN {UNFINISHED} ORDER BY rowid LIMIT 1"
            row = db.execute(query).fetchone()
            batch = None if row is None else _batch(db, row[0])
            return None if row is None or batch is None else (batch, row[1])

        return await self._database.run(work)

    async def uses(self, file_id: str) -> bool:
        """Whether an unfinished batch reads a file."""

        def work(db: sqlite3.Connection) -> bool:
            rows = db.execute(f"SELECT batch FROM batches WHERE status IN {UNFINISHED}").fetchall()
            return any(msgspec.json.decode(row[0])["input_file_id"] == file_id for row in rows)

        return await self._database.run(work)

    async def answered(self, batch_id: str) -> set[int]:
        """The numbers of the lines that have their answer."""

        def work(db: sqlite3.Connection) -> set[int]:
            return {row[0] for row in db.execute("SELECT line FROM batch_lines WHERE batch = ?", (batch_id,))}

        return await self._database.run(work)

    async def add_lines(self, batch_id: str, lines: Iterable[tuple[int, bool, bytes]]) -> None:
        """Answers of lines, each with its number and whether it is an error. One that is there already stays."""
        rows = [(batch_id, number, int(is_error), body) for number, is_error, body in lines]

        def work(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR IGNORE INTO batch_lines (batch, line, is_error, body) VALUES (?, ?, ?, ?)", rows)

        await self._database.run(work)

    async def finish(self, batch_id: str, owner: str, status: str, now: int, expires: int | None) -> None:
        """Make the output files of a batch and end it. Killed midway it is done again, into the same files."""

        def work(db: sqlite3.Connection) -> None:
            batch = _batch(db, batch_id)
            assert batch is not None
            for kind, is_error in (("output", 0), ("error", 1)):
                query = "SELECT count(*) FROM batch_lines WHERE batch = ? AND is_error = ?"
                if not db.execute(query, (batch_id, is_error)).fetchone()[0]:
                    continue
                file_id = f"file-{batch_id.removeprefix('batch_')}-{kind}"
                num_bytes = self._files.write(file_id, _lines(db, batch_id, is_error))
                name = f"{batch_id}_{kind}.jsonl"
                StoredFile(file_id, owner, now, name, "batch_output", num_bytes, expires).insert(db)
                batch[f"{kind}_file_id"] = file_id
            batch |= {"status": status, f"{status}_at": now, "usage": _usage(db, batch_id)}
            db.execute("DELETE FROM batch_lines WHERE batch = ?", (batch_id,))
            _save(db, batch)

        await self._database.run(work)


def _batch(db: sqlite3.Connection, batch_id: str, owner: str | None = None) -> Batch | None:
    """A batch as it is; while it runs its counts are those of its lines."""
    row = db.execute("SELECT owner, batch FROM batches WHERE id = ?", (batch_id,)).fetchone()
    if row is None or (owner is not None and row[0] != owner):
        return None
    batch: Batch = msgspec.json.decode(row[1])
    if batch["status"] in UNFINISHED:
        query = "SELECT count(*), coalesce(sum(is_error), 0) FROM batch_lines WHERE batch = ?"
        num_lines, num_errors = db.execute(query, (batch_id,)).fetchone()
        batch["request_counts"] |= {"completed": num_lines - num_errors, "failed": num_errors}
    return batch


def _save(db: sqlite3.Connection, batch: Batch) -> None:
    row = (batch["status"], msgspec.json.encode(batch), batch["id"])
    db.execute("UPDATE batches SET status = ?, batch = ? WHERE id = ?", row)


def _lines(db: sqlite3.Connection, batch_id: str, is_error: int) -> Iterator[bytes]:
    query = "SELECT body FROM batch_lines WHERE batch = ? AND is_error = ? ORDER BY line"
    for row in db.execute(query, (batch_id, is_error)):
        yield row[0] + b"\n"


class _Counts(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    prompt_tokens_details: dict[str, int] = {}
    input_tokens_details: dict[str, int] = {}
    completion_tokens_details: dict[str, int] = {}
    output_tokens_details: dict[str, int] = {}


class _Body(msgspec.Struct):
    usage: _Counts | None = None


class _Answered(msgspec.Struct):
    body: _Body


class _Answer(msgspec.Struct):
    response: _Answered | None = None


def _usage(db: sqlite3.Connection, batch_id: str) -> dict[str, Any]:
    """The tokens of all answers."""
    decoder = msgspec.json.Decoder(_Answer)
    num_input = num_output = num_cached = num_reasoning = 0
    for line in _lines(db, batch_id, 0):
        answer = decoder.decode(line)
        counts = answer.response.body.usage if answer.response is not None else None
        if counts is not None:
            num_input += counts.prompt_tokens + counts.input_tokens
            num_output += counts.completion_tokens + counts.output_tokens
            num_cached += (counts.prompt_tokens_details | counts.input_tokens_details).get("cached_tokens", 0)
            details = counts.completion_tokens_details | counts.output_tokens_details
            num_reasoning += details.get("reasoning_tokens", 0)
    return {
        "input_tokens": num_input,
        "input_tokens_details": {"cached_tokens": num_cached},
        "output_tokens": num_output,
        "output_tokens_details": {"reasoning_tokens": num_reasoning},
        "total_tokens": num_input + num_output,
    }
