"""A watcher that writes down what it is told."""

from __future__ import annotations

from collections.abc import Callable

from localllm_tui.history.values import Node
from localllm_tui.turns.watcher import CallState

from localllm.api import Event, ToolCall
from localllm.errors import LocalLLMError


class Notes:
    """`told` has all of it, in order; `errors` what went wrong. `after` is called after each."""

    def __init__(self, after: Callable[[], None] = lambda: None) -> None:
        self._after = after
        self.told: list[str] = []
        self.events: list[Event] = []
        self.errors: list[LocalLLMError] = []

    def began(self, node: Node) -> None:
        self.told.append(f"began {node.role}")
        self._after()

    def came(self, node_id: int, event: Event) -> None:  # noqa: ARG002
        self.events.append(event)
        self._after()

    def call(self, node_id: int, call: ToolCall, state: CallState, result: str | None) -> None:  # noqa: ARG002
        self.told.append(f"{call.name} {state}")

    def ended(self, node: Node) -> None:
        self.told.append(f"ended {node.state}")
        self._after()

    def not_kept(self, error: LocalLLMError) -> None:
        self.errors.append(error)

    def changed(self) -> None:
        self.told.append("changed")

    def trouble(self, error: LocalLLMError) -> None:
        self.errors.append(error)
