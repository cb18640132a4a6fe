"""The database of Ollama's desktop app (`db.sqlite`): chats, messages, thinking, tool calls, attachments.

Read as the app's tables of its schema 18 are (ollama/ollama, app/store/database.go); columns that an older one lacks
are taken as empty. The command line's history of prompts and sessions saved as models hold no conversations to import.
"""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from localllm_tui.exchange.errors import ExchangeError
from localllm_tui.exchange.trees import bundle, row, text
from localllm_tui.history.values import Attachment, Bundle, Conversation, Node

from localllm.api import ToolCall

_HEADER = b"SQLite format 3\x00"
_COLUMNS = {
    "chats": ("id", "title", "created_at"),
    "messages": ("id", "chat_id", "role", "content", "thinking", "model_name", "created_at", "tool_result"),
    "tool_calls": ("id", "message_id", "function_name", "function_arguments", "function_result"),
    "attachments": ("id", "message_id", "filename", "data"),
}


def is_sqlite(head: bytes) -> bool:
    """Whether a file that begins so is a database."""
    return head.startswith(_HEADER)


def read(path: Path) -> Iterator[Bundle]:
    """The chats of the file, which is not changed. Raises ExchangeError."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            # Nothing that stands in a foreign file is run.
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA query_only = ON")
            connection.row_factory = sqlite3.Row
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            tables = _tables(connection)
            chats = connection.execute(f"SELECT {tables['chats']} FROM chats ORDER BY created_at, id").fetchall()
            for chat in chats:
                if (found := _chat(connection, tables, chat)) is not None:
                    yield found
    except sqlite3.Error as exc:
        raise ExchangeError(f"the database cannot be read: {exc}") from exc


def _tables(connection: sqlite3.Connection) -> dict[str, str]:
    """What to select from each table: its columns, and NULL for those it lacks."""
    kinds = dict(connection.execute("SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')").fetchall())
    if any(kinds.get(name) != "table" for name in ("chats", "messages")):
        raise ExchangeError("the database holds no chats of Ollama's app")
    selected = {}
    for table, columns in _COLUMNS.items():
        there = {found[1] for found in connection.execute(f"PRAGMA table_info({table})")}
        if kinds.get(table) == "table":
            selected[table] = ", ".join(name if name in there else f"NULL AS {name}" for name in columns)
    return selected


def _chat(connection: sqlite3.Connection, tables: dict[str, str], chat: sqlite3.Row) -> Bundle | None:
    messages = connection.execute(
        f"SELECT {tables['messages']} FROM messages WHERE chat_id = ? ORDER BY id", (chat["id"],)
    )
    nodes: list[Node] = []
    for message in messages.fetchall():
        nodes += _nodes(connection, tables, message)
    if not nodes:
        return None
    models = [node.model for node in nodes if node.model]
    first = next((node.content for node in nodes if node.role == "user"), "")
    conversation = Conversation(
        0,
        title=text(chat["title"]) or " ".join(first.split())[:60],
        titled_by="model" if chat["title"] else "nobody",
        model=models[-1] or "" if models else "",
        created=_time(chat["created_at"]),
        updated=max(node.created for node in nodes) or _time(chat["created_at"]),
    )
    return bundle(f"ollama:{chat['id']}", conversation, row(nodes), None)


def _nodes(connection: sqlite3.Connection, tables: dict[str, str], message: sqlite3.Row) -> list[Node]:
    """A message, and behind one with calls what they gave."""
    created, written = _time(message["created_at"]), text(message["content"])
    match message["role"]:
        case "user":
            files = _files(connection, tables, message["id"])
            return [Node(0, 0, None, "user", written, attachments=files, created=created)]
        case "system":
            return [Node(0, 0, None, "system", written, created=created)]
        case "tool":
            return [Node(0, 0, None, "tool", written or text(message["tool_result"]), created=created)]
    rows = _part(connection, tables, "tool_calls", message["id"])
    calls = tuple(ToolCall(f"ollama-{one['id']}", text(one[2]), text(one[3]) or "{}") for one in rows)
    if not written and not message["thinking"] and not calls:
        return []
    answer = Node(
        0,
        0,
        None,
        "assistant",
        written,
        reasoning=text(message["thinking"]),
        tool_calls=calls,
        model=text(message["model_name"]) or None,
        created=created,
    )
    results = [
        Node(0, 0, None, "tool", text(one[4]), tool_call_id=call.id, name=call.name, created=created)
        for one, call in zip(rows, calls, strict=True)
        if one[4]
    ]
    return [answer, *results]


def _part(connection: sqlite3.Connection, tables: dict[str, str], table: str, message: int) -> list[sqlite3.Row]:
    if table not in tables:
        return []
    return connection.execute(
        f"SELECT {tables[table]} FROM {table} WHERE message_id = ? ORDER BY id", (message,)
    ).fetchall()


def _files(connection: sqlite3.Connection, tables: dict[str, str], message: int) -> tuple[Attachment, ...]:
    found = []
    for one in _part(connection, tables, "attachments", message):
        data = one["data"] if isinstance(one["data"], bytes) else text(one["data"]).encode()
        try:
            written = data.decode("utf-8")
        except UnicodeDecodeError:
            written = f"[{len(data)} bytes that are no text, not imported]"
        found.append(Attachment(text(one["filename"]) or "file", written))
    return tuple(found)


def _time(value: Any) -> float:
    """Unix seconds of a time as Go and SQLite write it; without a zone it is UTC."""
    try:
        then = datetime.datetime.fromisoformat(text(value).split(" m=")[0].removesuffix(" UTC").strip())
        if then.tzinfo is None:
            then = then.replace(tzinfo=datetime.UTC)
        return max(0.0, then.timestamp())
    except (ValueError, OverflowError, OSError):
        return 0.0
