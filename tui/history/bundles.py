"""Whole conversations in and out: what exports are made of and imports become. Inside a transaction.

A bundle's ids are its own: they say which turn is below which. `uid` tells the same conversation in two databases.
An import is many small transactions, so that nobody waits long for it. What it has taken in is hidden by a mark, a
negative time in `deleted`, until `reveal`; what a killed import left behind is removed at an opening after an hour.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable

from localllm_tui.history import conversations, index, nodes, rows
from localllm_tui.history.errors import HistoryError
from localllm_tui.history.values import Bundle, Node, TakenIn


def give(connection: sqlite3.Connection, conversation: int) -> Bundle:
    """A conversation with all its turns. Raises HistoryError."""
    found = conversations.get(connection, conversation)
    uid = connection.execute("SELECT uid FROM conversations WHERE id = ?", (conversation,)).fetchone()[0]
    return Bundle(uid, found, nodes.tree(connection, conversation))


def take(connection: sqlite3.Connection, bundles: Iterable[Bundle], mark: float) -> TakenIn:
    """Keep each bundle that is not here yet, hidden by `mark`; its rows wait for the index.

    One that is here with other turns besides is taken in beside it; one that was deleted is among those given back.
    """
    made: list[int] = []
    num_known = 0
    for bundle in bundles:
        uid = bundle.uid
        known = _known(connection, uid, mark)
        if known is not None and not _holds(connection, known["id"], bundle):
            uid = f"{bundle.uid}#{_digest(bundle)}"
            known = _known(connection, uid, mark)
        if known is None:
            made.append(_take_one(connection, bundle, uid, mark))
        elif known["deleted"] is not None and known["deleted"] > 0:
            made.append(known["id"])
        else:
            num_known += 1
    return TakenIn(tuple(made), num_known)


def reveal(connection: sqlite3.Connection, taken: Iterable[int]) -> None:
    """Show what was taken in, all at once."""
    connection.executemany("UPDATE conversations SET deleted = NULL WHERE id = ?", ((id_,) for id_ in taken))


def take_back(connection: sqlite3.Connection, mark: float) -> None:
    """Remove what an import has taken in under that mark."""
    for row in connection.execute("SELECT id FROM conversations WHERE deleted = ?", (mark,)).fetchall():
        conversations.remove(connection, row[0])


def _known(connection: sqlite3.Connection, uid: str, mark: float) -> sqlite3.Row | None:
    """The conversation of that uid. What an import that broke off has left is removed for it."""
    known: sqlite3.Row | None = connection.execute(
        "SELECT id, deleted FROM conversations WHERE uid = ?", (uid,)
    ).fetchone()
    if known is not None and known["deleted"] is not None and known["deleted"] < 0 and known["deleted"] != mark:
        conversations.remove(connection, known["id"])
        return None
    return known


def _take_one(connection: sqlite3.Connection, bundle: Bundle, uid: str, mark: float) -> int:
    value, now = bundle.conversation, -mark
    columns = {
        "uid": uid,
        "title": value.title,
        "titled_by": value.titled_by,
        "folder": value.folder,
        "is_pinned": int(value.is_pinned),
        "model": value.model,
        "system": value.system,
        "created": value.created or now,
        "updated": value.updated or value.created or now,
        "num_nodes": len(bundle.nodes),
        "deleted": mark,
    }
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    values = [rows.column(column) for column in columns.values()]
    id_ = connection.execute(f"INSERT INTO conversations ({names}) VALUES ({marks})", values).lastrowid or 0
    index.defer(connection, -id_)
    here: dict[int, int] = {}
    for node in bundle.nodes:
        if node.parent is not None and node.parent not in here:
            raise HistoryError(f"turn {node.id} of {value.title!r} stands before the turn above it", kind="refused")
        fields = {name: getattr(node, name) for name in nodes.FIELDS}
        fields["state"] = "stopped" if node.state == "streaming" else node.state
        parent = None if node.parent is None else here[node.parent]
        here[node.id] = nodes.insert(connection, id_, parent, node.role, fields, writer=_nobody)
    leaf = here.get(value.leaf) if value.leaf is not None else None
    if leaf is None and bundle.nodes:
        leaf = here[bundle.nodes[-1].id]
    if leaf is not None:
        nodes.mark_open(connection, leaf)
    connection.execute("UPDATE conversations SET leaf = ? WHERE id = ?", (leaf, id_))
    return id_


def _holds(connection: sqlite3.Connection, conversation: int, bundle: Bundle) -> bool:
    """Whether every turn of the bundle is among the conversation's."""
    found = connection.execute("SELECT role, content, reasoning FROM nodes WHERE conversation = ?", (conversation,))
    here = {tuple(row) for row in found}
    return all(_texts(node) in here for node in bundle.nodes)


def _texts(node: Node) -> tuple[str, str, str]:
    return node.role, rows.column(node.content), rows.column(node.reasoning)


def _digest(bundle: Bundle) -> str:
    digest = hashlib.sha256()
    for node in bundle.nodes:
        digest.update("\0".join((*_texts(node), "")).encode())
    return digest.hexdigest()[:16]


def _nobody() -> str:
    raise AssertionError("nothing that is taken in is being written")
