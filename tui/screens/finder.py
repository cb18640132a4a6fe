"""Finder: a dialog in which one of several things is found by typing, by arrow keys or by mouse, and taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from localllm_tui.screens.dialog import Dialog
from localllm_tui.widgets.quiet import QuietList
from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ScreenResultType
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option


class Finder(Dialog[ScreenResultType]):
    """Says which key moves what. A finder composes a QuietList, and a field where one can type, wherever it likes."""

    BINDING_GROUP_TITLE = "Where something is picked"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take_it", "Take it", show=False, priority=True, id="find.take"),
        Binding("down", "move('cursor_down')", "Down", show=False, priority=True, id="find.down"),
        Binding("up", "move('cursor_up')", "Up", show=False, priority=True, id="find.up"),
        Binding("pagedown", "move('page_down')", "A page down", show=False, priority=True, id="find.pagedown"),
        Binding("pageup", "move('page_up')", "A page up", show=False, priority=True, id="find.pageup"),
    ]

    # --- what a finder says -------------------------------------------------------------------------------------------

    def rows(self) -> Sequence[Content]:
        """What is found now, a row each of at most `columns`."""
        raise NotImplementedError

    def take(self, at: int) -> None:
        """A person wants the one in that row."""
        raise NotImplementedError

    def typed(self, text: str) -> None:
        """`text` is to be found: `list_rows` when it is."""
        raise NotImplementedError

    # --- what it can ask ----------------------------------------------------------------------------------------------

    @property
    def columns(self) -> int:
        """The room of a row."""
        return max(10, self.query_one(QuietList).scrollable_content_region.width - 2)

    @property
    def at(self) -> int | None:
        """The row that is highlighted."""
        return self.query_one(QuietList).highlighted

    def list_rows(self, at: int = 0) -> None:
        """Show what is found, the row `at` highlighted."""
        listed = self.query_one(QuietList)
        listed.set_options(Option(row) for row in self.rows())
        listed.highlighted = min(at, listed.option_count - 1) if listed.option_count else None

    # --- keys and mouse -----------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        """All there is."""
        self.list_rows()

    def on_resize(self) -> None:
        """Rows end where the list does, which is known when all has its place."""
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        if self.is_attached:  # a person may have left meanwhile
            self.list_rows(self.at or 0)

    def action_move(self, way: str) -> None:
        """The list's cursor, while one types."""
        listed = self.query_one(QuietList)
        if listed.size.height:  # without a line it cannot say what a page is
            getattr(listed, f"action_{way}")()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.typed(event.value)

    def action_take_it(self) -> None:
        """The highlighted one."""
        if self.at is not None:
            self.take(self.at)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.take(event.option_index)
