"""The list of conversations beside the open one, with a filter above it. It decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeAlias

from localllm_tui.history.values import Conversation
from localllm_tui.widgets.conversation_list import ConversationList
from localllm_tui.widgets.quiet import QuietInput
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Static


class _Filter(QuietInput):
    """What is typed here narrows the list; up and down go through it meanwhile."""

    BINDING_GROUP_TITLE = "In the filter of conversations"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "move(1)", "Down", id="filter.down", show=False),
        Binding("up", "move(-1)", "Up", id="filter.up", show=False),
        Binding("escape", "clear", "Show all again", id="filter.clear"),
    ]

    def action_move(self, step: int) -> None:
        """The list's cursor."""
        self.screen.query_one(ConversationList).action_move_cursor(step)

    def action_clear(self) -> None:
        """All again."""
        self.value = ""
        self.screen.query_one(ConversationList).focus()


class _New(Static):
    """A plus: a click makes a new conversation."""

    def on_click(self) -> None:
        """By mouse."""
        self.post_message(ConversationList.NewAsked())


class Sidebar(Vertical):
    """Conversations: pinned ones, folders, the rest by age."""

    DEFAULT_CSS = """
    Sidebar #sidebar-top { height: 1; margin: 0 0 1 0; }
    Sidebar _Filter {
        width: 1fr; padding: 0 1 0 2; background: transparent;
        &:focus { background: $surface; }
    }
    Sidebar _New { width: 5; text-align: center; color: $text-muted; }
    Sidebar _New:hover { color: $accent; }
    """

    Opened: TypeAlias = ConversationList.Opened
    NewAsked: TypeAlias = ConversationList.NewAsked
    RenameAsked: TypeAlias = ConversationList.RenameAsked
    PinAsked: TypeAlias = ConversationList.PinAsked
    DeleteAsked: TypeAlias = ConversationList.DeleteAsked
    UndoAsked: TypeAlias = ConversationList.UndoAsked
    MoveAsked: TypeAlias = ConversationList.MoveAsked
    MenuAsked: TypeAlias = ConversationList.MenuAsked
    SearchAsked: TypeAlias = ConversationList.SearchAsked
    Left: TypeAlias = ConversationList.Left

    def compose(self) -> ComposeResult:
        """Filter and plus, then the list."""
        with Horizontal(id="sidebar-top"):
            yield _Filter(placeholder="Filter", id="sidebar-filter")
            yield _New("+", markup=False)
        yield ConversationList()

    def show(self, conversations: Sequence[Conversation], current: int | None) -> None:
        """These, newest first, with the open one marked. Cursor, scrolling, folders and filter stay as they are."""
        self.query_one(ConversationList).show(conversations, current)

    def focus_list(self) -> None:
        """The keys go to the list."""
        self.query_one(ConversationList).focus()

    @on(Input.Changed, "#sidebar-filter")
    def _filtered(self, event: Input.Changed) -> None:
        event.stop()
        self.query_one(ConversationList).filter(event.value)

    @on(Input.Submitted, "#sidebar-filter")
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        # In the list's own turn: a message made in this one would count as the sidebar's, and not go above it.
        conversations = self.query_one(ConversationList)
        conversations.call_next(conversations.action_choose)

    @on(ConversationList.FilterAsked)
    def _filter_asked(self, event: ConversationList.FilterAsked) -> None:
        event.stop()
        self.query_one(_Filter).focus()

    @on(ConversationList.Opened)
    def _opened(self) -> None:
        self.query_one(_Filter).value = ""
