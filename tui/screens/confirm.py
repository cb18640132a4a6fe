"""A question with yes and no."""

from __future__ import annotations

from typing import ClassVar

from localllm_tui.screens.dialog import Dialog
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Label

from localllm.terminal_text import safe_stream


class ConfirmScreen(Dialog[bool]):
    """True: yes. `words` say what would happen; `yes` is what the button says."""

    DEFAULT_CSS = """
    ConfirmScreen > Vertical { width: 68; }
    ConfirmScreen .head { text-style: bold; margin: 0 0 1 0; }
    ConfirmScreen .words { color: $text-muted; margin: 0 0 1 0; }
    ConfirmScreen Horizontal { height: auto; align-horizontal: right; }
    ConfirmScreen Button { margin: 0 0 0 2; min-width: 10; }
    ConfirmScreen.-narrow Button { margin: 0 0 0 1; min-width: 6; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "leave", "No", id="dialog.no"),
        Binding("y", "dismiss(True)", "Yes", id="dialog.yes"),
        Binding("left", "app.focus_previous", "Other answer", id="dialog.previous", show=False),
        Binding("right", "app.focus_next", "Other answer", id="dialog.next", show=False),
    ]

    def __init__(self, question: str, words: str = "", *, yes: str = "Yes") -> None:
        super().__init__()
        self._question, self._words, self._yes = safe_stream(question), safe_stream(words), yes

    def compose(self) -> ComposeResult:
        """Question, what it means, two buttons."""
        with Vertical():
            yield Label(self._question, markup=False, classes="head")
            if self._words:
                yield Label(self._words, markup=False, classes="words")
            with Horizontal():
                yield Button("No", compact=True, id="no")
                yield Button(self._yes, compact=True, id="yes", variant="primary")

    def on_mount(self) -> None:
        """Enter is yes; Escape is near."""
        self.query_one("#yes", Button).focus()

    def action_leave(self) -> None:
        """That is a no."""
        self.dismiss(False)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.dismiss(event.button.id == "yes")
