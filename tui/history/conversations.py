"""Rows of conversations: made, listed, changed, deleted and given back. Every call is inside a transaction."""

from __future__ import annotations

import sqlite3
import uuid
from typing import Any

from localllm_tui.history import index, nodes, rows
from localllm_tui.history.errors import HistoryError
from localllm_tui.history.values import Conversation

_LISTED = f"SELECT {rows.CONVERSATION} FROM conversations WHERE deleted IS NULL"
_ORDER = "ORDER BY is_pinned DESC, updated DESC, id DESC LIMIT ? OFFSET ?"
_CHANGED = {"title", "titled_by", "folder", "is_pinned", "model", "system", "leaf"}
_KEPT_S = 30 * 86_400.0
_IMPORT_S = 3600.0


def new(
    connection: sqlite3.Connection, *, model: str, system: str, folder: str, title: str, now: float, uid: str = ""
) -> Conversation:
    """A conversation without turns."""
    values = {
        "uid": uid or uuid.uuid4().hex,
        "title": title,
        "titled_by": "person" if title else "nobody",
        "folder": folder,
        "is_pinned": 0,
        "model": model,
        "system": system,
        "created": now,
        "updated": now,
    }
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    columns = [rows.column(value) for value in values.values()]
    id_ = connection.execute(f"INSERT INTO conversations ({names}) VALUES ({marks})", columns).lastrowid or 0
    index.take(connection, -id_)
    return get(connection, id_)


def get(connection: sqlite3.Connection, id_: int) -> Conversation:
    """One that is not deleted. Raises HistoryError."""
    row = connection.execute(f"{_LISTED} AND id = ?", (id_,)).fetchone()
    if row is None:
        raise HistoryError(f"there is no conversation {id_}", kind="missing")
    return rows.conversation(row)


def listed(connection: sqlite3.Connection, *, folder: str | None, limit: int, offset: int) -> tuple[Conversation, ...]:
    """Pinned ones first, then the last updated; of one folder, or of all."""
    if folder is None:
        found = connection.execute(f"{_LISTED} {_ORDER}", (limit, offset))
    else:
        found = connection.execute(f"{_LISTED} AND folder = ? {_ORDER}", (folder, limit, offset))
    return tuple(rows.conversation(row) for row in found)


def change(connection: sqlite3.Connection, id_: int, fields: dict[str, Any]) -> Conversation:
    """Give fields other values. Raises HistoryError where a leaf is none of the conversation's turns."""
    before = get(connection, id_)
    if unknown := fields.keys() - _CHANGED:
        raise TypeError(f"a conversation's {', '.join(sorted(unknown))} cannot be changed")
    if not fields:
        return before
    if (leaf := fields.get("leaf")) is not None:
        if nodes.get(connection, leaf).conversation != id_:
            raise HistoryError(f"turn {leaf} is none of conversation {id_}", kind="missing")
        nodes.mark_open(connection, leaf)
    is_retitled = "title" in fields and fields["title"] != before.title
    if is_retitled:
        index.drop(connection, -id_)
    sets = ", ".join(f"{name} = ?" for name in fields)
    values = [rows.column(value) for value in fields.values()]
    connection.execute(f"UPDATE conversations SET {sets} WHERE id = ?", (*values, id_))
    if is_retitled:
        index.take(connection, -id_)
    return get(connection, id_)


def delete(connection: sqlite3.Connection, id_: int, now: float) -> None:
    """Out of every list; `undelete` brings it back for 30 days."""
    get(connection, id_)
    connection.execute("UPDATE conversations SET deleted = ? WHERE id = ?", (now, id_))


def undelete(connection: sqlite3.Connection, id_: int) -> Conversation:
    """Back as it was."""
    connection.execute("UPDATE conversations SET deleted = NULL WHERE id = ?", (id_,))
    return get(connection, id_)


def purge(connection: sqlite3.Connection, now: float, *, limit: int = 50) -> int:
    """Remove for good what was deleted over 30 days ago, and what an import that was killed has left.

    At most `limit` conversations; gives how many.
    """
    old = connection.execute(
        "SELECT id FROM conversations WHERE deleted IS NOT NULL"
        " AND (deleted BETWEEN 0 AND ? OR deleted BETWEEN ? AND 0) LIMIT ?",
        (now - _KEPT_S, -(now - _IMPORT_S), limit),
    ).fetchall()
    for row in old:
        remove(connection, row[0])
    return len(old)


def remove(connection: sqlite3.Connection, id_: int) -> None:
    """Remove one for good, with all that belongs to it."""
    members = [row[0] for row in connection.execute("SELECT id FROM nodes WHERE conversation = ?", (id_,))]
    for member in (*members, -id_):
        index.drop(connection, member)
        index.forget(connection, member)
    connection.execute("DELETE FROM drafts WHERE conversation = ?", (id_,))
    connection.execute("DELETE FROM conversations WHERE id = ?", (id_,))


def folders(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Names of folders that hold something, in order."""
    found = connection.execute("SELECT DISTINCT folder FROM conversations WHERE deleted IS NULL AND folder <> ''")
    return tuple(sorted((row[0] for row in found), key=str.casefold))


def count(connection: sqlite3.Connection) -> int:
    """How many there are."""
    number: int = connection.execute("SELECT count(*) FROM conversations WHERE deleted IS NULL").fetchone()[0]
    return number
