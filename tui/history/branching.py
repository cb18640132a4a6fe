"""A branch of a conversation as a conversation of its own. Inside a transaction."""

from __future__ import annotations

import sqlite3

from localllm_tui.history import conversations, index, nodes
from localllm_tui.history.values import Conversation


def branch(connection: sqlite3.Connection, node_id: int, title: str | None, *, now: float) -> Conversation:
    """Copies of the turns from the first to `node_id`, in a new conversation; an answer under way counts as stopped."""
    way = nodes.path(connection, node_id)
    source = conversations.get(connection, way[0].conversation)
    made = conversations.new(
        connection,
        model=source.model,
        system=source.system,
        folder=source.folder,
        title=title if title is not None else _title(source),
        now=now,
    )
    parent: int | None = None
    for node in way:
        fields = {name: getattr(node, name) for name in nodes.FIELDS}
        if node.state == "streaming":
            fields["state"] = "stopped"
        parent = nodes.insert(connection, made.id, parent, node.role, fields, writer=_nobody)
        index.take(connection, parent)
    connection.execute("UPDATE conversations SET leaf = ?, num_nodes = ? WHERE id = ?", (parent, len(way), made.id))
    titled_by = source.titled_by if title is None else "person"
    return conversations.change(connection, made.id, {"titled_by": titled_by})


def _title(source: Conversation) -> str:
    return f"{source.title} (branch)" if source.title else ""


def _nobody() -> str:
    raise AssertionError("nothing that is copied is being written")
