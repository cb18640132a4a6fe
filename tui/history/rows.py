"""Rows of the database as values, and values as columns. Pure."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec
from localllm_tui.history.values import Attachment, Conversation, Node, Stats

from localllm.api import ToolCall

CONVERSATION = "id, title, titled_by, folder, is_pinned, model, system, leaf, created, updated, num_nodes"
NODE = (
    "id, conversation, parent, role, content, reasoning, tool_calls, tool_call_id, name, model, state, error,"
    " attachments, stats, created"
)
_calls = msgspec.json.Decoder(tuple[ToolCall, ...])
_attachments = msgspec.json.Decoder(tuple[Attachment, ...])
_stats = msgspec.json.Decoder(Stats)
_encode = msgspec.json.Encoder().encode


def conversation(row: sqlite3.Row) -> Conversation:
    """The value of a row with the columns `CONVERSATION`."""
    id_, title, titled_by, folder, is_pinned, model, system, leaf, created, updated, num_nodes = row
    return Conversation(
        id_, title, titled_by, folder, bool(is_pinned), model, system, leaf, created, updated, num_nodes
    )


def node(row: sqlite3.Row) -> Node:
    """The value of a row with the columns `NODE`."""
    fields = dict(row)
    fields["tool_calls"] = _calls.decode(fields["tool_calls"]) if fields["tool_calls"] else ()
    fields["attachments"] = attachments(fields["attachments"])
    fields["stats"] = _stats.decode(fields["stats"]) if fields["stats"] else None
    return Node(**fields)


def attachments(column: str | None) -> tuple[Attachment, ...]:
    """Attachments as their column holds them."""
    return _attachments.decode(column) if column else ()


def column(value: Any) -> Any:
    """A field's value as SQLite keeps it: JSON for values of several parts, nothing for empty ones."""
    if isinstance(value, (tuple, list, msgspec.Struct)):
        return _json(value) if value else None
    # A lone surrogate is no character: no database and no file can hold it.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) and not value.isascii() else value


def _json(value: Any) -> str:
    try:
        return _encode(value).decode()
    except UnicodeEncodeError:
        import json

        return json.dumps(msgspec.to_builtins(value), ensure_ascii=False).encode("utf-8", "replace").decode()
