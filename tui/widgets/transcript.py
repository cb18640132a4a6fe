"""The open conversation, turn under turn; it follows an answer only while its end is in sight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from localllm_tui.history.values import Node
from localllm_tui.widgets.message_view import MessageView
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message


class Transcript(VerticalScroll, can_focus=False):
    """The turns of one branch, oldest first. Nodes of role "tool" are shown in the card of the call they answer."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "select(-1)", "Turn before", id="transcript.previous"),
        Binding("down", "select(1)", "Turn after", id="transcript.next"),
        Binding("escape", "leave", "Back to the prompt", id="transcript.leave"),
    ]

    @dataclass
    class Left(Message):
        """The person is done with the turns: the prompt is where they want to be."""

    def show(self, path: tuple[Node, ...], places: Mapping[int, tuple[int, int]] | None = None) -> None:
        """Show these turns, and the end of the last. `places`: which sibling of how many, by node id."""
        self.remove_children()
        for node in path:
            self.append(node, place=(places or {}).get(node.id, (1, 1)))
        self.anchor()

    def append(self, node: Node, *, place: tuple[int, int] = (1, 1)) -> MessageView:
        """One more turn at the end. Of a "tool" node: the view of the turn that made the call."""
        view = MessageView(node, place=place)
        self.mount(view)
        return view

    def view(self, node_id: int) -> MessageView | None:
        """The view of a node, if it is shown."""
        return next((view for view in self.query(MessageView) if view.node.id == node_id), None)

    @property
    def selected(self) -> MessageView | None:
        """The turn that keys act on."""
        return next((view for view in self.query(MessageView) if view.has_focus_within), None)

    def action_select(self, step: int) -> None:
        """The turn before or after; from the prompt: the last one."""
        views = list(self.query(MessageView))
        if not views:
            return
        chosen = self.selected
        index = views.index(chosen) + step if chosen in views else len(views) - 1
        if index >= len(views):
            self.action_leave()
        else:
            views[max(0, index)].focus()

    def action_leave(self) -> None:
        """Back to the prompt."""
        self.post_message(self.Left())
