"""The shape of the database, version by version. A step once released is never changed; a new one is added."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from localllm_tui.history.errors import HistoryError

APPLICATION_ID = 0x6C6C6D63

# Columns of `nodes` stand in the order of how often they are read alone: long texts last.
_FIRST = (
    """CREATE TABLE conversations (
        id INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT NOT NULL UNIQUE, title TEXT NOT NULL, titled_by TEXT NOT NULL,
        folder TEXT NOT NULL, is_pinned INTEGER NOT NULL, model TEXT NOT NULL, leaf INTEGER, created REAL NOT NULL,
        updated REAL NOT NULL, num_nodes INTEGER NOT NULL DEFAULT 0, deleted REAL, system TEXT NOT NULL
    )""",
    "CREATE INDEX conversations_listed ON conversations (is_pinned DESC, updated DESC, id DESC) WHERE deleted IS NULL",
    "CREATE INDEX conversations_deleted ON conversations (deleted) WHERE deleted IS NOT NULL",
    """CREATE TABLE nodes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation INTEGER NOT NULL REFERENCES conversations ON DELETE CASCADE,
        parent INTEGER REFERENCES nodes DEFERRABLE INITIALLY DEFERRED, open_child INTEGER, writer TEXT,
        role TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL, name TEXT, model TEXT, tool_call_id TEXT,
        error TEXT, stats TEXT, tool_calls TEXT, attachments TEXT, reasoning TEXT NOT NULL, content TEXT NOT NULL
    )""",
    "CREATE INDEX nodes_of ON nodes (conversation, parent)",
    "CREATE INDEX nodes_below ON nodes (parent)",
    "CREATE INDEX nodes_streaming ON nodes (state) WHERE state = 'streaming'",
    "CREATE TABLE drafts (conversation INTEGER PRIMARY KEY, text TEXT NOT NULL, attachments TEXT, edits INTEGER)",
    "CREATE TABLE marks (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    # Rows: a node's id, or a conversation's with a minus. `unindexed` holds those that wait to be taken in.
    """CREATE VIRTUAL TABLE words USING fts5 (
        text, content = '', columnsize = 0, tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2 3'
    )""",
    "CREATE TABLE unindexed (id INTEGER PRIMARY KEY)",
)
STEPS: tuple[tuple[str, ...], ...] = (_FIRST,)


def version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the file, 0 of an empty one. Raises HistoryError for another program's file and a newer one."""
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    is_empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if application != APPLICATION_ID and not is_empty:
        raise HistoryError(f"{path} belongs to another program", path=str(path), kind="foreign")
    if found > len(STEPS):
        message = f"{path} was written by a newer localllm (version {found}; this one knows {len(STEPS)})"
        raise HistoryError(message, hint="use that localllm; the file was not touched", path=str(path), kind="newer")
    return found


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the file to the newest version, each step whole or not at all."""
    while (found := version(connection, path)) < len(STEPS):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another program may have been faster.
            if version(connection, path) == found:
                for statement in STEPS[found]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {found + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
