"""The way on from a damaged database: it is set aside, and what can still be read goes into a new one."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from localllm_tui.history import conversations, rows
from localllm_tui.history.errors import translated
from localllm_tui.history.history import History
from localllm_tui.history.values import Bundle, Node, TakenIn

_BESIDE = ("", "-wal", "-shm")


def set_aside(path: Path) -> Path:
    """Give the damaged file another name, so that the next opening begins anew; gives that name."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    kept = path.with_name(f"{path.name}.damaged-{stamp}")
    with translated(path):
        for end in _BESIDE:
            file = path.with_name(path.name + end)
            if file.exists():
                file.rename(kept.with_name(kept.name + end))
    return kept


def salvage(damaged: Path, history: History) -> TakenIn:
    """Take into `history` every conversation of the file that can be read, with those of its turns that can be."""
    with contextlib.closing(sqlite3.connect(damaged, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        found = list(_readable(connection))
    return history.take_in(found)


def _readable(connection: sqlite3.Connection) -> Iterator[Bundle]:
    for id_ in _ids(connection, "conversations"):
        with contextlib.suppress(sqlite3.Error, msgspec.DecodeError):
            row = connection.execute("SELECT uid, deleted FROM conversations WHERE id = ?", (id_,)).fetchone()
            if row is not None and row["deleted"] is None:
                yield Bundle(row["uid"], conversations.get(connection, id_), tuple(_turns(connection, id_)))


def _turns(connection: sqlite3.Connection, conversation: int) -> Iterator[Node]:
    """Turns that can be read; one whose turn above cannot be stands at the beginning."""
    seen: set[int] = set()
    for id_ in _ids(connection, "nodes", "WHERE conversation = ?", conversation):
        with contextlib.suppress(sqlite3.Error, msgspec.DecodeError):
            row = connection.execute(f"SELECT {rows.NODE} FROM nodes WHERE id = ?", (id_,)).fetchone()
            node = rows.node(row)
            parent = node.parent if node.parent in seen else None
            seen.add(node.id)
            yield msgspec.structs.replace(node, parent=parent)


def _ids(connection: sqlite3.Connection, table: str, where: str = "", *values: int) -> list[int]:
    """Ids in order, as far as they can be read, from the table and from its indexes."""
    found: set[int] = set()
    for way in (f"SELECT id FROM {table} {where}", f"SELECT id FROM {table} NOT INDEXED {where}"):
        with contextlib.suppress(sqlite3.Error):
            for row in connection.execute(way, values):
                found.add(row[0])
    return sorted(found)
