"""What was typed and not sent, a row for each conversation. Every call is inside a transaction."""

from __future__ import annotations

import sqlite3

from localllm_tui.history import rows
from localllm_tui.history.values import Draft


def get(connection: sqlite3.Connection, conversation: int) -> Draft:
    """A conversation's draft; an empty one where nothing was typed."""
    row = connection.execute(
        "SELECT text, attachments, edits FROM drafts WHERE conversation = ?", (conversation,)
    ).fetchone()
    return Draft() if row is None else Draft(row["text"], rows.attachments(row["attachments"]), row["edits"])


def save(connection: sqlite3.Connection, conversation: int, draft: Draft) -> None:
    """Keep it in place of the one before."""
    if draft == Draft():
        connection.execute("DELETE FROM drafts WHERE conversation = ?", (conversation,))
        return
    values = (conversation, rows.column(draft.text), rows.column(draft.attachments), draft.edits)
    connection.execute("INSERT OR REPLACE INTO drafts VALUES (?, ?, ?, ?)", values)
