"""History: conversations on disk, for everyone above. Thread-safe; every call is one small transaction."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from localllm_tui.history import branching, bundles, conversations, drafts, index, nodes
from localllm_tui.history import search as searching
from localllm_tui.history.database import Database
from localllm_tui.history.errors import HistoryError
from localllm_tui.history.presence import Presence
from localllm_tui.history.values import Bundle, Conversation, Draft, Hit, Node, TakenIn

from localllm.api import Role

# Rows taken into the index in one transaction: some hundredths of a second.
_SLICE = 200
_BUNDLES = 50
# Between two of many transactions, so that another thread's turn comes.
_BREATH_S = 0.001


class History:
    """The database of a person's conversations. Every call may raise HistoryError.

    Opening brings the file to this version, marks what killed programs were writing as stopped, and removes for good
    what was deleted over 30 days ago.
    """

    def __init__(self, path: Path) -> None:
        self._db = Database(path)
        self._presence = Presence(path)
        with self._db.write() as connection:
            self._interrupted = nodes.stop_interrupted(connection, self._presence.is_gone)
            conversations.purge(connection, time.time())
            num_taken = index.take_waiting(connection, _SLICE)
        self._presence.tidy()
        self._is_closing = threading.Event()
        self._indexer: threading.Thread | None = None
        if num_taken == _SLICE:
            self._indexer = threading.Thread(target=self._index_waiting, name="history-index", daemon=True)
            self._indexer.start()

    @property
    def file(self) -> Path:
        """The database."""
        return self._db.path

    def close(self) -> None:
        """Wait for calls under way, then close."""
        self._is_closing.set()
        if self._indexer is not None:
            self._indexer.join()
        self._presence.close()
        self._db.close()

    # Conversations

    def new(self, *, model: str, system: str = "", folder: str = "", title: str = "") -> Conversation:
        """A conversation without turns."""
        with self._db.write() as connection:
            return conversations.new(
                connection, model=model, system=system, folder=folder, title=title, now=time.time()
            )

    def conversation(self, id: int) -> Conversation:
        """One that is not deleted."""
        with self._db.read() as connection:
            return conversations.get(connection, id)

    def conversations(
        self, *, folder: str | None = None, limit: int = 200, offset: int = 0
    ) -> tuple[Conversation, ...]:
        """Pinned ones first, then the last updated; of one folder ("": of none), or of all."""
        with self._db.read() as connection:
            return conversations.listed(connection, folder=folder, limit=limit, offset=offset)

    def change(self, id: int, **fields: Any) -> Conversation:
        """Give `title`, `titled_by`, `folder`, `is_pinned`, `model`, `system` or `leaf` other values."""
        with self._db.write() as connection:
            return conversations.change(connection, id, fields)

    def delete(self, id: int) -> None:
        """Out of every list; `undelete` brings it back for 30 days."""
        with self._db.write() as connection:
            conversations.delete(connection, id, time.time())

    def undelete(self, id: int) -> Conversation:
        """Back as it was."""
        with self._db.write() as connection:
            return conversations.undelete(connection, id)

    def folders(self) -> tuple[str, ...]:
        """Names of folders that hold something, in order."""
        with self._db.read() as connection:
            return conversations.folders(connection)

    def count(self) -> int:
        """How many conversations there are."""
        with self._db.read() as connection:
            return conversations.count(connection)

    def last_open(self) -> int | None:
        """The conversation that was open last, if it is still there."""
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT id FROM conversations WHERE deleted IS NULL"
                " AND id = (SELECT value FROM marks WHERE key = 'last_open')"
            ).fetchone()
            return None if row is None else row[0]

    def set_last_open(self, id: int) -> None:
        """Remember where the person is; 0 is the new conversation."""
        with self._db.write() as connection:
            connection.execute("INSERT OR REPLACE INTO marks VALUES ('last_open', ?)", (id,))

    def folders_open(self) -> dict[str, bool]:
        """Which folders of the list a person opened, and which they closed."""
        with self._db.read() as connection:
            found = connection.execute("SELECT substr(key, 8), value FROM marks WHERE key GLOB 'folder:*'")
            return {row[0]: bool(row[1]) for row in found}

    def set_folder_open(self, name: str, is_open: bool) -> None:
        """Remember that a folder was opened or closed. Marks of folders that hold nothing any more are dropped."""
        with self._db.write() as connection:
            connection.execute("INSERT OR REPLACE INTO marks VALUES ('folder:' || ?, ?)", (name, is_open))
            connection.execute(
                "DELETE FROM marks WHERE key GLOB 'folder:*'"
                " AND substr(key, 8) NOT IN (SELECT folder FROM conversations WHERE deleted IS NULL)"
            )

    # Turns

    def add(self, conversation: int, parent: int | None, role: Role, content: str = "", **fields: Any) -> Node:
        """A turn below `parent` (None: a first one); it becomes the conversation's open leaf."""
        with self._db.write() as connection:
            values = {"content": content, **fields}
            return nodes.add(connection, conversation, parent, role, values, now=time.time(), writer=self._writer)

    def update(self, node_id: int, **fields: Any) -> Node:
        """Give fields of a turn other values. Cheap while its state is "streaming"."""
        with self._db.write() as connection:
            return nodes.update(connection, node_id, fields, now=time.time(), writer=self._writer)

    def node(self, id: int) -> Node:
        """One turn."""
        with self._db.read() as connection:
            return nodes.get(connection, id)

    def path(self, leaf: int) -> tuple[Node, ...]:
        """From the first turn to `leaf`."""
        with self._db.read() as connection:
            return nodes.path(connection, leaf)

    def siblings(self, node_id: int) -> tuple[Node, ...]:
        """The turn and those beside it, oldest first."""
        with self._db.read() as connection:
            return nodes.siblings(connection, node_id)

    def children(self, node_id: int) -> tuple[Node, ...]:
        """The turns right below, oldest first."""
        with self._db.read() as connection:
            return nodes.children(connection, node_id)

    def newest_leaf(self, node_id: int) -> int:
        """Where walking to a turn lands: the end of the branch below it that was open last."""
        with self._db.read() as connection:
            return nodes.newest_leaf(connection, node_id)

    def tree(self, conversation: int) -> tuple[Node, ...]:
        """All turns, whoever is above another before it."""
        with self._db.read() as connection:
            return nodes.tree(connection, conversation)

    def written(self, *, limit: int = 200) -> tuple[str, ...]:
        """What persons wrote last, in any conversation, the newest last."""
        with self._db.read() as connection:
            return nodes.written(connection, limit)

    def branch(self, node_id: int, *, title: str | None = None) -> Conversation:
        """The way to a turn as a conversation of its own; the one it comes from stays as it is."""
        with self._db.write() as connection:
            return branching.branch(connection, node_id, title, now=time.time())

    def interrupted(self) -> tuple[Node, ...]:
        """Answers that a killed program had been writing, found when this History was opened."""
        with self._db.read() as connection:
            return tuple(nodes.get(connection, id_) for id_ in self._interrupted)

    # Search and drafts

    def search(self, query: str, limit: int = 50) -> tuple[Hit, ...]:
        """Where all words of `query` stand: titles first, then turns, newest first. Any text is a legal query."""
        with self._db.search() as connection:
            return searching.search(connection, query, limit)

    def draft(self, conversation: int) -> Draft:
        """What was typed there and not sent; 0 is the new conversation."""
        with self._db.read() as connection:
            return drafts.get(connection, conversation)

    def save_draft(self, conversation: int, draft: Draft) -> None:
        """Keep it; once this returns it survives the end of the process, however that ends."""
        with self._db.write() as connection:
            drafts.save(connection, conversation, draft)

    # Export and import

    def bundle(self, conversation: int) -> Bundle:
        """A conversation with all its turns."""
        with self._db.read() as connection:
            return bundles.give(connection, conversation)

    def take_in(self, given: Iterable[Bundle]) -> TakenIn:
        """Keep what is not here yet: all of it or, after an error, nothing. May take seconds; call it in a thread."""
        mark, waiting = -time.time(), iter(given)
        made: list[int] = []
        num_known = 0
        try:
            while part := list(islice(waiting, _BUNDLES)):
                with self._db.write() as connection:
                    taken = bundles.take(connection, part, mark)
                made += taken.conversations
                num_known += taken.num_known
                time.sleep(_BREATH_S)
            with self._db.write() as connection:
                bundles.reveal(connection, made)
        except BaseException:
            with contextlib.suppress(HistoryError), self._db.write() as connection:
                bundles.take_back(connection, mark)
            raise
        self._index_waiting()
        return TakenIn(tuple(made), num_known)

    def _index_waiting(self) -> None:
        """Take in what waits for the index, in slices that others need not wait long for."""
        num_taken = _SLICE
        while num_taken == _SLICE and not self._is_closing.wait(_BREATH_S):
            with self._db.write() as connection:
                num_taken = index.take_waiting(connection, _SLICE)

    def _writer(self) -> str:
        return self._presence.token
