"""Watcher: who is told what happens while the model has the word. A screen, mostly; in tests a list."""

from __future__ import annotations

from typing import Literal, Protocol

from localllm_tui.history.values import Node

from localllm.api import Event, ToolCall
from localllm.errors import LocalLLMError

CallState = Literal["asking", "running", "done", "refused", "failed"]


class Watcher(Protocol):
    """All of it happens in the event loop, in order. Nothing here may take long."""

    def began(self, node: Node) -> None:
        """A turn was added to the end of its branch, or one that was there is written again."""
        ...

    def came(self, node_id: int, event: Event) -> None:
        """More of the answer."""
        ...

    def call(self, node_id: int, call: ToolCall, state: CallState, result: str | None) -> None:
        """How a tool call of this answer stands."""
        ...

    def ended(self, node: Node) -> None:
        """The turn's last word."""
        ...

    def not_kept(self, error: LocalLLMError) -> None:
        """What came could not be written down; said once a turn, and tried again."""
        ...


class ConversationWatcher(Watcher, Protocol):
    """Who looks at an open conversation."""

    def changed(self) -> None:
        """The branch, the title, the model, or what waits is another one now."""
        ...

    def trouble(self, error: LocalLLMError) -> None:
        """The reply could not begin, or could not go on."""
        ...
