"""Rows of turns: a tree in every conversation, and which way through it is open. Every call is inside a transaction.

`open_child` is the child that was open last: from any turn it leads to where a person was below it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from localllm_tui.history import index, rows
from localllm_tui.history.errors import HistoryError
from localllm_tui.history.values import Node

from localllm.api import Role

_TEXTS = {"content", "reasoning", "attachments", "tool_calls"}
FIELDS = _TEXTS | {"tool_call_id", "name", "model", "state", "error", "stats", "created"}
_UP = """WITH RECURSIVE up (id, parent) AS (
    SELECT id, parent FROM nodes WHERE id = ? UNION ALL SELECT n.id, n.parent FROM nodes n JOIN up ON n.id = up.parent
)"""
_DOWN = """WITH RECURSIVE down (id, next) AS (
    SELECT id, open_child FROM nodes WHERE id = ?
    UNION ALL SELECT n.id, n.open_child FROM nodes n JOIN down ON n.id = down.next
)"""


def get(connection: sqlite3.Connection, id_: int) -> Node:
    """One turn. Raises HistoryError."""
    row = connection.execute(f"SELECT {rows.NODE} FROM nodes WHERE id = ?", (id_,)).fetchone()
    if row is None:
        raise HistoryError(f"there is no turn {id_}", kind="missing")
    return rows.node(row)


def written(connection: sqlite3.Connection, limit: int) -> tuple[str, ...]:
    """The last messages of persons that are not very long, the newest last; looks at four times as many turns."""
    rows_ = connection.execute(
        "SELECT content FROM (SELECT id, content, role, conversation FROM nodes ORDER BY id DESC LIMIT ?) n"
        " JOIN conversations c ON c.id = n.conversation"
        " WHERE role = 'user' AND length(content) <= 4000 AND c.deleted IS NULL ORDER BY n.id DESC LIMIT ?",
        (4 * limit, limit),
    )
    return tuple(row["content"] for row in rows_)[::-1]


def insert(
    connection: sqlite3.Connection,
    conversation: int,
    parent: int | None,
    role: Role,
    fields: dict[str, Any],
    *,
    writer: Callable[[], str],
) -> int:
    """A turn below `parent`; it becomes the open one there. It waits for the index."""
    if unknown := fields.keys() - FIELDS:
        raise TypeError(f"a turn has no {', '.join(sorted(unknown))}")
    values = {"reasoning": "", "content": "", "state": "complete", **fields}
    values |= {"conversation": conversation, "parent": parent, "role": role}
    if values["state"] == "streaming":
        values["writer"] = writer()
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    columns = [rows.column(value) for value in values.values()]
    id_ = connection.execute(f"INSERT INTO nodes ({names}) VALUES ({marks})", columns).lastrowid or 0
    connection.execute("UPDATE nodes SET open_child = ? WHERE id = ?", (id_, parent))
    index.defer(connection, id_)
    return id_


def add(
    connection: sqlite3.Connection,
    conversation: int,
    parent: int | None,
    role: Role,
    fields: dict[str, Any],
    *,
    now: float,
    writer: Callable[[], str],
) -> Node:
    """A turn below `parent` (None: a first one), which becomes the leaf that is open. Raises HistoryError."""
    found = connection.execute("SELECT leaf FROM conversations WHERE id = ? AND deleted IS NULL", (conversation,))
    row = found.fetchone()
    if row is None:
        raise HistoryError(f"there is no conversation {conversation}", kind="missing")
    if parent is not None and get(connection, parent).conversation != conversation:
        raise HistoryError(f"turn {parent} is none of conversation {conversation}", kind="missing")
    id_ = insert(connection, conversation, parent, role, {"created": now, **fields}, writer=writer)
    if parent != row["leaf"]:
        mark_open(connection, id_)
    if fields.get("state") != "streaming":
        index.take(connection, id_)
    connection.execute(
        "UPDATE conversations SET leaf = ?, updated = ?, num_nodes = num_nodes + 1 WHERE id = ?",
        (id_, now, conversation),
    )
    return get(connection, id_)


def update(
    connection: sqlite3.Connection, id_: int, fields: dict[str, Any], *, now: float, writer: Callable[[], str]
) -> Node:
    """Give fields other values. The index follows once the turn is not being written any more."""
    before = connection.execute("SELECT conversation, state FROM nodes WHERE id = ?", (id_,)).fetchone()
    if before is None:
        raise HistoryError(f"there is no turn {id_}", kind="missing")
    if unknown := fields.keys() - FIELDS:
        raise TypeError(f"a turn's {', '.join(sorted(unknown))} cannot be changed")
    if not fields:
        return get(connection, id_)
    was_streaming, state = before["state"] == "streaming", fields.get("state", before["state"])
    if not was_streaming and (state == "streaming" or fields.keys() & _TEXTS):
        index.drop(connection, id_)
    columns = {name: rows.column(value) for name, value in fields.items()}
    if "state" in fields:
        columns["writer"] = writer() if state == "streaming" else None
    sets = ", ".join(f"{name} = ?" for name in columns)
    connection.execute(f"UPDATE nodes SET {sets} WHERE id = ?", (*columns.values(), id_))
    if state != "streaming" and index.waits(connection, id_):
        index.take(connection, id_)
    if was_streaming != (state == "streaming"):
        connection.execute("UPDATE conversations SET updated = ? WHERE id = ?", (now, before["conversation"]))
    return get(connection, id_)


def mark_open(connection: sqlite3.Connection, id_: int) -> None:
    """Remember the way from the first turn to this one as the open one."""
    connection.execute(
        f"{_UP} UPDATE nodes SET open_child = (SELECT up.id FROM up WHERE up.parent = nodes.id)"
        " WHERE id IN (SELECT parent FROM up)",
        (id_,),
    )


def path(connection: sqlite3.Connection, leaf: int) -> tuple[Node, ...]:
    """From the first turn to `leaf`."""
    found = connection.execute(f"{_UP} SELECT {rows.NODE} FROM nodes WHERE id IN (SELECT id FROM up)", (leaf,))
    by_id = {row["id"]: rows.node(row) for row in found}
    way: list[Node] = []
    at: int | None = leaf
    while at is not None and at in by_id:
        way.append(by_id[at])
        at = by_id[at].parent
    if not way:
        raise HistoryError(f"there is no turn {leaf}", kind="missing")
    return tuple(reversed(way))


def siblings(connection: sqlite3.Connection, id_: int) -> tuple[Node, ...]:
    """The turn and those beside it, oldest first."""
    me = get(connection, id_)
    found = connection.execute(
        f"SELECT {rows.NODE} FROM nodes WHERE conversation = ? AND parent IS ? ORDER BY id",
        (me.conversation, me.parent),
    )
    return tuple(rows.node(row) for row in found)


def children(connection: sqlite3.Connection, id_: int) -> tuple[Node, ...]:
    """The turns right below, oldest first."""
    found = connection.execute(f"SELECT {rows.NODE} FROM nodes WHERE parent = ? ORDER BY id", (id_,))
    return tuple(rows.node(row) for row in found)


def newest_leaf(connection: sqlite3.Connection, id_: int) -> int:
    """The last turn of the branch below that was open last; the turn itself where nothing is below."""
    row = connection.execute(f"{_DOWN} SELECT id FROM down WHERE next IS NULL", (id_,)).fetchone()
    if row is None:
        raise HistoryError(f"there is no turn {id_}", kind="missing")
    leaf: int = row[0]
    return leaf


def tree(connection: sqlite3.Connection, conversation: int) -> tuple[Node, ...]:
    """All turns of a conversation in order of creation: whoever is above another comes before it."""
    found = connection.execute(f"SELECT {rows.NODE} FROM nodes WHERE conversation = ? ORDER BY id", (conversation,))
    return tuple(rows.node(row) for row in found)


def stop_interrupted(connection: sqlite3.Connection, is_gone: Callable[[str], bool]) -> tuple[int, ...]:
    """Mark as stopped what programs that have ended were writing; gives which turns those are."""
    streaming = connection.execute("SELECT id, writer FROM nodes WHERE state = 'streaming'").fetchall()
    gone = {writer: writer is None or is_gone(writer) for writer in {row["writer"] for row in streaming}}
    stopped = tuple(row["id"] for row in streaming if gone[row["writer"]])
    for id_ in stopped:
        connection.execute("UPDATE nodes SET state = 'stopped', writer = NULL WHERE id = ?", (id_,))
        index.take(connection, id_)
    return stopped
