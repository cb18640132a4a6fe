"""The open conversation, turn under turn; it follows an answer only while its end is in sight."""

from __future__ import annotations

from localllm_tui.history.values import Node
from localllm_tui.widgets.message_view import MessageView
from textual.containers import VerticalScroll


class Transcript(VerticalScroll):
    """The turns of one branch, oldest first."""

    def show(self, path: tuple[Node, ...]) -> None:
        """Show these turns, and the end of the last."""
        self.remove_children()
        for node in path:
            self.append(node)

    def append(self, node: Node) -> MessageView:
        """One more turn at the end."""
        view = MessageView(node)
        self.mount(view)
        return view
