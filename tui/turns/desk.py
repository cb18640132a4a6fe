"""Desk: the conversations that are open. One that is being answered stays open while a person looks at another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from localllm_tui.history.history import History
from localllm_tui.history.values import Conversation
from localllm_tui.turns.open_conversation import OpenConversation
from localllm_tui.turns.reply import Tools, Wishes

from localllm.api import Backend, SamplingParams


class Desk:
    """Opens conversations, and keeps those whose reply is under way. `on_over` is told of every reply's end.

    `on_asking` is told of every tool call that waits for a person's word, `on_due` of messages whose turn has come.
    """

    def __init__(
        self,
        backend: Callable[[], Awaitable[Backend]],
        history: History,
        *,
        tools: Tools | None = None,
        sampling: SamplingParams | None = None,
        on_over: Callable[[OpenConversation], None] | None = None,
        on_asking: Callable[[OpenConversation], None] | None = None,
        on_due: Callable[[OpenConversation], object] | None = None,
    ) -> None:
        self._backend = backend
        self._history = history
        self._tools = tools
        self._sampling = sampling or SamplingParams()
        self._on_over = on_over
        self._on_asking = on_asking
        self._on_due = on_due
        self._kept: list[OpenConversation] = []

    def open(self, id: int, model: str) -> OpenConversation:
        """The conversation of that id, as it stands; asked with its own model, else `model`. Raises HistoryError."""
        self._kept = [kept for kept in self._kept if kept.is_busy or kept.waiting is not None]
        for kept in self._kept:
            if kept.id == id:
                return kept
        return self._opened(self._history.conversation(id), model)

    def new(self, model: str, *, system: str = "", folder: str = "") -> OpenConversation:
        """One that comes into being with its first message."""
        return self._opened(Conversation(0, model=model, system=system, folder=folder), model)

    def _opened(self, conversation: Conversation, model: str) -> OpenConversation:
        wishes = Wishes(conversation.model or model, self._sampling)
        opened = OpenConversation(
            self._backend,
            self._history,
            conversation,
            wishes,
            tools=self._tools,
            on_over=self._on_over,
            on_asking=self._on_asking,
            on_due=self._on_due,
        )
        self._kept.append(opened)
        return opened

    async def close(self) -> None:
        """End every reply; what came is kept. Nobody is told any more."""
        for kept in self._kept:
            kept.leave()
        await asyncio.gather(*(kept.close() for kept in self._kept))
