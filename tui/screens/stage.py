"""Stage: shows what happens in an open conversation, as it happens. It decides nothing."""

from __future__ import annotations

from collections.abc import Callable

from localllm_tui.history.values import Node
from localllm_tui.turns.open_conversation import OpenConversation
from localllm_tui.turns.watcher import CallState
from localllm_tui.widgets.transcript import Transcript

from localllm.api import Event, ReasoningDelta, TextDelta, ToolCall
from localllm.errors import LocalLLMError


class Stage:
    """The watcher of the conversation that is shown. `on_event` and `on_change` keep what lies around it up to date."""

    def __init__(
        self,
        transcript: Transcript,
        *,
        on_change: Callable[[], None],
        on_event: Callable[[Event | None], None],
        on_error: Callable[[LocalLLMError], None],
    ) -> None:
        self._transcript = transcript
        self._on_change = on_change
        self._on_event = on_event
        self._on_error = on_error
        self._open: OpenConversation | None = None
        self._shown: tuple[int, ...] = ()

    def show(self, opened: OpenConversation) -> None:
        """Look at this conversation from now on, and at the last one no longer."""
        if self._open is not None:
            self._open.watcher = None
        self._open = opened
        opened.watcher = self
        self._show_path()
        self._on_change()

    def _show_path(self) -> None:
        assert self._open is not None
        path = self._open.now()
        self._shown = tuple(node.id for node in path)
        self._transcript.show(path, {node.id: self._open.place(node) for node in path})
        for node_id, call in self._open.reply.asking() if self._open.reply is not None else ():
            self.call(node_id, call, "asking", None)

    # --- Watcher ------------------------------------------------------------------------------------------------------

    def began(self, node: Node) -> None:
        """An answer begins: a turn at the end, or one that is there, anew."""
        assert self._open is not None
        if (view := self._transcript.view(node.id)) is not None:
            view.show(node, self._open.place(node))
        elif self._open.path and self._open.path[-1].id == node.id:
            self._shown = (*self._shown, node.id)
            self._transcript.append(node, place=self._open.place(node))
        self._on_event(None)

    def came(self, node_id: int, event: Event) -> None:
        """More of it."""
        view = self._transcript.view(node_id)
        match event:
            case TextDelta() if view is not None:
                view.append_text(event.text)
            case ReasoningDelta() if view is not None:
                view.append_reasoning(event.text)
        self._on_event(event)

    def call(self, node_id: int, call: ToolCall, state: CallState, result: str | None) -> None:
        """A call's card."""
        if (view := self._transcript.view(node_id)) is not None:
            view.show_call(call, state, result)
            self._on_change()

    def ended(self, node: Node) -> None:
        """The last word."""
        assert self._open is not None
        if (view := self._transcript.view(node.id)) is not None:
            view.show(node, self._open.place(node))
        self._on_event(None)

    def not_kept(self, error: LocalLLMError) -> None:
        """Said; the answer goes on."""
        self._on_error(error)

    def trouble(self, error: LocalLLMError) -> None:
        """Said."""
        self._on_error(error)

    def changed(self) -> None:
        """Another branch, or something beside it."""
        assert self._open is not None
        path = self._open.path
        if tuple(node.id for node in path) != self._shown:
            self._extend_or_show(path)
        self._on_change()

    def _extend_or_show(self, path: tuple[Node, ...]) -> None:
        assert self._open is not None
        ids = tuple(node.id for node in path)
        if self._shown and ids[: len(self._shown)] == self._shown:
            for node in path[len(self._shown) :]:
                self._transcript.append(node, place=self._open.place(node))
            self._shown = ids
        else:
            self._show_path()
