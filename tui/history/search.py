"""Search over titles and turns: what was typed becomes a query, rows become hits with snippets. Changes nothing.

Titles come first, then turns, the newest before older ones; a conversation takes at most three places.
"""

from __future__ import annotations

import re
import sqlite3

from localllm_tui.history import index, rows
from localllm_tui.history.snippets import Wanted
from localllm_tui.history.values import Hit

_PER_CONVERSATION = 3
_TERM = re.compile(r'"([^"]*)"|(\S+)')
_WORD = re.compile(r"[^\W_]", re.UNICODE)
_FOUND = """SELECT n.id, n.conversation, n.created FROM words w JOIN nodes n ON n.id = w.rowid
    JOIN conversations c ON c.id = n.conversation
    WHERE words MATCH ? AND w.rowid > 0 AND c.deleted IS NULL ORDER BY w.rowid DESC LIMIT ?"""
_TITLES = """SELECT c.id FROM words w JOIN conversations c ON c.id = -w.rowid
    WHERE words MATCH ? AND w.rowid < 0 AND c.deleted IS NULL ORDER BY w.rowid LIMIT ?"""

_TEXTS = "SELECT content, reasoning, attachments, tool_calls, role, created FROM nodes WHERE id = ?"


def terms(typed: str) -> list[tuple[str, bool]]:
    """What to look for, in order, and whether the word may go on. Text in double quotes is one term as it stands."""
    found = []
    for exact, loose in _TERM.findall(typed):
        term = (exact or loose).replace('"', " ").replace("\0", " ").strip()
        if _WORD.search(term):
            found.append((term, not exact))
    return found


def query(typed: str) -> str | None:
    """A query for FTS5 that any text makes a legal one; None where there is nothing to look for."""
    return " AND ".join(f'"{index.spaced(term)}"' + ("*" if is_open else "") for term, is_open in terms(typed)) or None


def search(connection: sqlite3.Connection, typed: str, limit: int) -> tuple[Hit, ...]:
    """Up to `limit` hits."""
    match = query(typed)
    if match is None:
        return ()
    wanted = Wanted(terms(typed))
    places: list[tuple[int, int | None]] = [
        (row["id"], None) for row in connection.execute(_TITLES, (match, max(1, limit // 3)))
    ]
    found = connection.execute(_FOUND, (match, limit * 8)).fetchall()
    taken: dict[int, int] = {}
    for row in sorted(found, key=lambda row: (-row["created"], -row["id"])):
        conversation = row["conversation"]
        taken[conversation] = taken.get(conversation, 0) + 1
        if taken[conversation] <= _PER_CONVERSATION:
            places.append((conversation, row["id"]))
    return tuple(_hit(connection, wanted, *place) for place in places[:limit])


def _hit(connection: sqlite3.Connection, wanted: Wanted, conversation: int, node: int | None) -> Hit:
    row = connection.execute(f"SELECT {rows.CONVERSATION} FROM conversations WHERE id = ?", (conversation,)).fetchone()
    found = rows.conversation(row)
    if node is None:
        return Hit(found, None, wanted.snippet(found.title), created=found.updated)
    texts = connection.execute(_TEXTS, (node,)).fetchone()
    return Hit(found, node, wanted.snippet(index.joined(*texts[:4])), texts["role"], texts["created"])
