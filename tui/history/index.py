"""The full-text index: what of a turn is found, kept in step with the rows. Every call is inside a transaction.

The index holds no text. To take a row out, SQLite has to be told the very text that went in; so whoever changes a
row's text calls `drop` before and `take` after, and whoever changes what `text_of` gives rebuilds the index in a new
step of the migrations. A row that waits (an answer being written, an import) is in
`unindexed` and not in the index.
"""

from __future__ import annotations

import re
import sqlite3

from localllm_tui.history import rows

# Scripts written without spaces: each character is a word of its own, and a query for several is a phrase.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af])"
)
_TEXTS = "SELECT content, reasoning, attachments, tool_calls FROM nodes WHERE id = ?"


def spaced(text: str) -> str:
    """`text` with a space between characters of scripts that have none, as the index sees it."""
    return text if text.isascii() else _UNSPACED.sub(r" \1 ", text)


def text_of(connection: sqlite3.Connection, id_: int) -> str | None:
    """What the index holds for a node, or for a conversation (`id_` below zero); None where there is no such row."""
    if id_ < 0:
        row = connection.execute("SELECT title FROM conversations WHERE id = ?", (-id_,)).fetchone()
        return None if row is None else spaced(row[0])
    row = connection.execute(_TEXTS, (id_,)).fetchone()
    return None if row is None else spaced(joined(*row))


def joined(content: str, reasoning: str, attachments: str | None, calls: str | None) -> str:
    """All that can be found of a turn, from its columns."""
    parts = [content, reasoning]
    if attachments:
        parts += [f"{one.name}\n{one.text}" for one in rows.attachments(attachments)]
    if calls:
        parts.append(calls)
    return "\n\n".join(part for part in parts if part)


def waits(connection: sqlite3.Connection, id_: int) -> bool:
    """Whether the row is in `unindexed`."""
    return connection.execute("SELECT 1 FROM unindexed WHERE id = ?", (id_,)).fetchone() is not None


def drop(connection: sqlite3.Connection, id_: int) -> None:
    """Take a row out, and note that it waits. Before its text changes."""
    if waits(connection, id_):
        return
    text = text_of(connection, id_)
    if text is not None:
        connection.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (id_, text))
    defer(connection, id_)


def defer(connection: sqlite3.Connection, id_: int) -> None:
    """Note that a new row waits."""
    connection.execute("INSERT OR IGNORE INTO unindexed VALUES (?)", (id_,))


def take(connection: sqlite3.Connection, id_: int) -> None:
    """Take in a row that waits. After its text changed."""
    text = text_of(connection, id_)
    if text is not None:
        connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (id_, text))
    forget(connection, id_)


def forget(connection: sqlite3.Connection, id_: int) -> None:
    """The row is gone, or no longer waits."""
    connection.execute("DELETE FROM unindexed WHERE id = ?", (id_,))


def take_waiting(connection: sqlite3.Connection, limit: int) -> int:
    """Take in up to `limit` rows that wait, but none that is still being written; gives how many."""
    waiting = connection.execute(
        "SELECT id FROM unindexed WHERE id NOT IN (SELECT id FROM nodes WHERE state = 'streaming') LIMIT ?", (limit,)
    ).fetchall()
    for row in waiting:
        take(connection, row[0])
    return len(waiting)
