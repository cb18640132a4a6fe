"""One turn as it is seen: who, thinking, text, tool calls, figures."""

from __future__ import annotations

import msgspec
from localllm_tui.history.values import Node
from textual.widgets import Static

from localllm.terminal_text import safe_stream


class MessageView(Static):
    """One node. While its answer comes, `append_text` and its like grow it; `show` has the last word."""

    def __init__(self, node: Node) -> None:
        self.node = node
        super().__init__(safe_stream(node.content), markup=False)

    def append_text(self, text: str) -> None:
        """More of the answer."""
        self.show(msgspec.structs.replace(self.node, content=self.node.content + text))

    def show(self, node: Node) -> None:
        """The node as it is now."""
        self.node = node
        self.update(safe_stream(node.content))
