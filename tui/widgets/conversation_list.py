"""The list itself: drawn line by line, so that ten thousand conversations cost what fits on the screen."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from localllm_tui.history.values import Conversation
from localllm_tui.widgets.conversation_lines import Pieces, folder_line, mark, note_line, title_line
from localllm_tui.widgets.conversation_rows import Folder, Heading, Key, Row, Rows, SearchRow, arrange, key_of
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from localllm.terminal_text import cut, safe_line

_SEARCH = "⌕"


class ConversationList(ScrollView, can_focus=True):
    """Conversations with a cursor. It says what the person wants with the one under it."""

    BINDING_GROUP_TITLE = "In the list of conversations"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move_cursor(-1)", "Up", id="list.up", show=False),
        Binding("down,j", "move_cursor(1)", "Down", id="list.down", show=False),
        Binding("pageup", "page(-1)", "A page up", id="list.pageup", show=False),
        Binding("pagedown", "page(1)", "A page down", id="list.pagedown", show=False),
        Binding("home", "end(-1)", "To the first", id="list.home", show=False),
        Binding("end", "end(1)", "To the last", id="list.end", show=False),
        Binding("left", "fold", "Close the folder", id="list.fold", show=False),
        Binding("right", "unfold", "Open the folder", id="list.unfold", show=False),
        Binding("enter,space", "choose", "Open", id="list.open"),
        Binding("n", "ask_new", "New conversation", id="list.new"),
        Binding("r", "ask('rename')", "Rename", id="list.rename"),
        Binding("p", "ask('pin')", "Pin or unpin", id="list.pin"),
        Binding("m", "ask('move')", "Move to a folder", id="list.move"),
        Binding("d,delete", "ask('delete')", "Delete", id="list.delete"),
        Binding("u", "ask_undo", "Bring back what was deleted last", id="list.undo"),
        Binding("o", "ask('menu')", "What can be done with it", id="list.menu"),
        Binding("slash", "ask_filter", "Filter", id="list.filter"),
        Binding("escape", "leave", "Back to the prompt", id="list.leave"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "list--heading", "list--folder", "list--title", "list--untitled", "list--current", "list--note", "list--mark",
        "list--cursor", "list--hover",
    }  # fmt: skip
    DEFAULT_CSS = """
    ConversationList {
        height: 1fr; overflow-x: hidden; scrollbar-gutter: stable;
        & .list--heading { color: $text-muted; text-style: bold; }
        & .list--folder { color: $foreground; }
        & .list--title { color: $foreground; }
        & .list--untitled { color: $text-muted; text-style: italic; }
        & .list--current { color: $foreground; text-style: bold; }
        & .list--note { color: $text-muted; }
        & .list--mark { color: $accent; }
        & .list--cursor { background: $panel; }
        & .list--hover { background: $surface; }
        &:nocolor .list--cursor { text-style: reverse; }
    }
    """

    @dataclass
    class Opened(Message):
        """This conversation is to be seen."""

        id: int

    @dataclass
    class NewAsked(Message):
        """A new conversation."""

    @dataclass
    class RenameAsked(Message):
        """Another title for it."""

        id: int

    @dataclass
    class PinAsked(Message):
        """Pin it, or take it off."""

        id: int

    @dataclass
    class DeleteAsked(Message):
        """Delete it."""

        id: int

    @dataclass
    class UndoAsked(Message):
        """Bring back the one deleted last."""

    @dataclass
    class MoveAsked(Message):
        """Into another folder."""

        id: int

    @dataclass
    class MenuAsked(Message):
        """What can be done with it?"""

        id: int

    @dataclass
    class SearchAsked(Message):
        """Look for these words in all texts."""

        text: str

    @dataclass
    class FolderTurned(Message):
        """The person opened a folder, or closed it."""

        name: str
        is_open: bool

    @dataclass
    class FilterAsked(Message):
        """The person wants to type a filter."""

    @dataclass
    class Left(Message):
        """The person goes back to where one writes."""

    _ASKS: ClassVar[dict[str, Callable[[int], Message]]] = {
        "rename": RenameAsked, "pin": PinAsked, "delete": DeleteAsked, "move": MoveAsked, "menu": MenuAsked,
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._conversations: Sequence[Conversation] = ()
        self._rows = Rows()
        self._current: int | None = None
        self._cursor: Key | None = None
        self._at: int | None = None
        self._hover: int | None = None
        self._open_folders: set[str] = set()
        self._left_closed: set[str] = set()
        self._words = ""
        self._height = 0

    # --- what is shown ------------------------------------------------------------------------------------------------

    def show(self, conversations: Sequence[Conversation], current: int | None) -> None:
        """These, newest first, with the open one marked. Cursor, scrolling and folders stay as they are."""
        if current != self._current:
            self._open_folder_of(conversations, current)
            if self._cursor is None or self._cursor == ("conversation", self._current):
                self._cursor = ("conversation", current) if current else None
        self._conversations, self._current = conversations, current
        self._arrange()

    def restore_folders(self, is_open: Mapping[str, bool]) -> None:
        """Folders as they were left, before the first `show`. One that was closed stays so, whatever is open in it."""
        self._open_folders = {name for name, state in is_open.items() if state}
        self._left_closed = is_open.keys() - self._open_folders

    def filter(self, words: str) -> None:
        """Only those with all these words; none: all."""
        if words != self._words:
            self._words = words
            self._cursor = None if words else ("conversation", self._current or 0)
            self._arrange()
            self.scroll_to(y=0, animate=False)
            if not words:
                self._scroll_to_cursor()

    def _open_folder_of(self, conversations: Sequence[Conversation], current: int | None) -> None:
        folder = next((one.folder for one in conversations if one.id == current), "") if current else ""
        if folder and folder not in self._left_closed:
            self._open_folders.add(folder)
        if self._current is not None or conversations:
            self._left_closed = set()

    def _arrange(self) -> None:
        """Make the rows anew. What the cursor is on keeps its place on the screen."""
        before, offset = self._cursor_line(), self.scroll_offset.y
        now = datetime.datetime.now()
        self._rows = arrange(self._conversations, open_folders=self._open_folders, words=self._words, now=now)
        self._at = self._rows.find(self._cursor)
        if self._at is None and (first := self._rows.next_choice(0, 1)) is not None:
            self._put_cursor(first)
        self._hover = None
        self.virtual_size = Size(self.size.width, self._rows.num_lines)
        after = self._cursor_line()
        if before is not None and after is not None and 0 <= before - offset < self.size.height:
            self.scroll_to(y=max(0, offset + after - before), animate=False)
        self.refresh()

    def on_resize(self) -> None:
        """The lines are as wide as the list. Where it comes into sight, so does what is under the cursor."""
        self.virtual_size = Size(self.size.width, self._rows.num_lines)
        if self.size.height != self._height:
            self._height = self.size.height
            self._scroll_to_cursor()

    def on_focus(self) -> None:
        """Keys move what is seen."""
        self.call_after_refresh(self._scroll_to_cursor)

    @property
    def _is_plain(self) -> bool:
        """Whether signs that every screen reader can say are wanted."""
        return self.app.has_class("-plain")

    # --- drawing ------------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """See Widget."""
        place = self._rows.at(y + self.scroll_offset.y)
        columns = self.size.width
        if place is None:
            return Strip.blank(columns, self.rich_style)
        number, part = place
        row = self._rows.rows[number]
        match row:
            case Heading():
                is_blank = number > 0 and part == 0
                pieces = [("" if is_blank else f" {row.text}", "list--heading")]
            case Folder():
                pieces = folder_line(row, columns, is_plain=self._is_plain)
            case SearchRow():
                text = cut(f"Search all texts for “{safe_line(row.text)}”", columns - 3)
                pieces = [(" / " if self._is_plain else f" {_SEARCH} ", "list--mark"), (text, "list--title")]
            case _:
                pieces = self._conversation(row, part, number, columns)
        base = self._base(number, row)
        segments = [Segment(text, self._style(name) + base) for text, name in pieces]
        return Strip(segments).adjust_cell_length(columns, self.rich_style + base).simplify()

    def _conversation(self, row: Conversation, part: int, number: int, columns: int) -> Pieces:
        is_current = row.id == self._current
        is_inside = bool(row.folder) and not row.is_pinned and not self._words
        before = mark(is_current=is_current, is_inside=is_inside, is_plain=self._is_plain)
        if part:
            return note_line(row, before, columns)
        has_menu = number == self._hover or (self._is_led and number == self._at)
        return title_line(row, before, columns, is_current=is_current, has_menu=has_menu)

    def _base(self, number: int, row: object) -> Style:
        if isinstance(row, Heading):
            return Style()
        if self._is_led and number == self._at:
            return self.get_component_rich_style("list--cursor", partial=True)
        if number == self._hover:
            return self.get_component_rich_style("list--hover", partial=True)
        return Style()

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(name)

    # --- the cursor ---------------------------------------------------------------------------------------------------

    @property
    def chosen(self) -> Conversation | None:
        """The conversation under the cursor."""
        row = self._row
        return row if isinstance(row, Conversation) else None

    @property
    def _row(self) -> Row | None:
        return None if self._at is None else self._rows.rows[self._at]

    @property
    def _is_led(self) -> bool:
        """Whether keys move the cursor now: those of the filter do, too."""
        return self.has_focus or bool(self._words)

    def _cursor_line(self) -> int | None:
        return None if self._at is None else self._rows.starts[self._at]

    def _put_cursor(self, number: int) -> None:
        self._at, self._cursor = number, key_of(self._rows.rows[number])
        self.refresh()

    def _go_to(self, number: int | None) -> None:
        if number is not None:
            self._put_cursor(number)
            self._scroll_to_cursor()

    def _scroll_to_cursor(self) -> None:
        number = self._at
        if number is None:
            return
        start, height = self._rows.starts[number], self._rows.height(number)
        # A heading above comes into sight together with what it is above.
        while number > 0 and isinstance(self._rows.rows[number - 1], Heading):
            number -= 1
            start, height = self._rows.starts[number], height + self._rows.height(number)
        self.scroll_to_region(Region(0, start, 1, height), animate=False, force=True)

    def action_move_cursor(self, step: int) -> None:
        """One row up or down."""
        start = (0 if step > 0 else len(self._rows.rows) - 1) if self._at is None else self._at + step
        self._go_to(self._rows.next_choice(start, step))

    def action_page(self, step: int) -> None:
        """As far as can be seen."""
        line = self._cursor_line() or 0
        target = min(max(0, line + step * max(1, self.size.height - 2)), max(0, self._rows.num_lines - 1))
        place = self._rows.at(target)
        if place is not None:
            number = self._rows.next_choice(place[0], step)
            self._go_to(self._rows.next_choice(place[0], -step) if number is None else number)

    def action_end(self, step: int) -> None:
        """The first or the last row."""
        self._go_to(self._rows.next_choice(0 if step < 0 else len(self._rows.rows) - 1, -step))

    # --- what the person wants ----------------------------------------------------------------------------------------

    def action_choose(self) -> None:
        """Open what is under the cursor."""
        match self._row:
            case Conversation(id=id_):
                self.post_message(self.Opened(id_))
            case Folder(name=name):
                self._toggle(name)
            case SearchRow(text=text):
                self.post_message(self.SearchAsked(text))

    def _toggle(self, folder: str) -> None:
        self._open_folders ^= {folder}
        self._arrange()
        self.post_message(self.FolderTurned(folder, folder in self._open_folders))

    def action_fold(self) -> None:
        """Close the folder that the cursor is on or in."""
        row = self._row
        name = row.name if isinstance(row, Folder) else row.folder if isinstance(row, Conversation) else ""
        if name in self._open_folders and not self._words:
            self._cursor = ("folder", name)
            self._toggle(name)

    def action_unfold(self) -> None:
        """Open the folder under the cursor."""
        row = self._row
        if isinstance(row, Folder) and not row.is_open:
            self._toggle(row.name)

    def action_ask(self, what: str) -> None:
        """Something with the conversation under the cursor."""
        if (chosen := self.chosen) is not None:
            self.post_message(self._ASKS[what](chosen.id))

    def action_ask_new(self) -> None:
        """A new conversation."""
        self.post_message(self.NewAsked())

    def action_ask_undo(self) -> None:
        """What was deleted last."""
        self.post_message(self.UndoAsked())

    def action_ask_filter(self) -> None:
        """To the filter."""
        self.post_message(self.FilterAsked())

    def action_leave(self) -> None:
        """Back to the prompt."""
        self.post_message(self.Left())

    # --- the mouse ----------------------------------------------------------------------------------------------------

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """What is under the pointer is drawn so."""
        place = self._rows.at(event.y + self.scroll_offset.y)
        number = None if place is None else place[0]
        if number != self._hover:
            self._hover = number
            self.refresh()

    def on_leave(self) -> None:
        """Nothing is under the pointer."""
        self._hover = None
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Open what was clicked; its dots ask for the menu."""
        place = self._rows.at(event.y + self.scroll_offset.y)
        if place is None or isinstance(self._rows.rows[place[0]], Heading):
            return
        event.stop()
        self._put_cursor(place[0])
        if self.chosen is not None and (event.button == 3 or (place[1] == 0 and event.x >= self.size.width - 3)):
            self.action_ask("menu")
        else:
            self.action_choose()
