"""Pair: one question, two models. Both answers are written below the same turn, each with its model; no tools run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from localllm_tui.history.history import History
from localllm_tui.history.values import Node
from localllm_tui.turns.open_conversation import OpenConversation
from localllm_tui.turns.reply import request_of
from localllm_tui.turns.turn import Turn
from localllm_tui.turns.watcher import Watcher

from localllm.api import Backend


class Pair:
    """Answers of several models to the last turn of `opened`. `turns` and `nodes` are in the order of the models."""

    def __init__(self, history: History, opened: OpenConversation) -> None:
        self.turns: list[Turn] = []
        self.nodes: list[Node] = []
        self._history = history
        self._opened = opened

    async def run(self, backend: Backend, question: Node, models: Sequence[str], watchers: Sequence[Watcher]) -> None:
        """Ask all at once and wait for the last word of each. Raises HistoryError where no answer can be kept."""
        opened = self._opened
        path, system = self._history.path(question.id), opened.conversation.system
        for model, watcher in zip(models, watchers, strict=True):
            node = self._history.add(opened.id, question.id, "assistant", model=model, state="streaming")
            request = request_of(path, system, msgspec.structs.replace(opened.wishes, model=model))
            self.nodes.append(node)
            self.turns.append(Turn(backend, self._history, request, node, watcher))
            watcher.began(node)
        self.nodes = list(await asyncio.gather(*(turn.run() for turn in self.turns)))

    async def stop(self) -> None:
        """End all answers with what they have."""
        await asyncio.gather(*(turn.stop() for turn in self.turns))

    def keep(self, index: int) -> None:
        """Go on with this answer, and with its model; the other stays beside it. Raises HistoryError."""
        node = self.nodes[index]
        self._opened.go_to_leaf(node.id)
        if node.model and node.model != self._opened.wishes.model:
            self._opened.change(model=node.model)
