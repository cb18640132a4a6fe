"""Small dialogs: a line or a text to be written, a question to be answered."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, TextArea

_CSS = """
{name} {{ align: center middle; background: $background 60%; }}
{name} > Vertical {{
    width: 72; max-width: 94%; height: auto; max-height: 90%; padding: 1 2; background: $surface;
    border: round $border-blurred;
}}
{name} Label {{ width: 100%; }}
{name} Input, {name} TextArea {{ border: none; background: $panel; padding: 0 1; margin: 1 0 0 0; }}
{name} Input {{ height: 1; }}
{name} Input:focus, {name} TextArea:focus {{ border: none; background-tint: transparent; }}
{name} .hint {{ color: $text-muted; margin: 1 0 0 0; }}
"""


class LineScreen(ModalScreen[str | None]):
    """One line to be written; None: the person left. An empty line is an answer."""

    DEFAULT_CSS = _CSS.format(name="LineScreen")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Leave", id="dialog.leave")]

    def __init__(self, question: str, text: str = "", hint: str = "") -> None:
        super().__init__()
        self._question, self._text, self._hint = question, text, hint

    def compose(self) -> ComposeResult:
        """Question, line, hint."""
        with Vertical():
            yield Label(self._question, markup=False)
            yield Input(self._text)
            if self._hint:
                yield Label(self._hint, markup=False, classes="hint")

    @on(Input.Submitted)
    def _answered(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value)


class TextScreen(ModalScreen[str | None]):
    """A text to be written; None: the person left it as it was."""

    DEFAULT_CSS = _CSS.format(name="TextScreen") + "TextScreen TextArea { height: 12; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Leave", id="dialog.leave"),
        Binding("ctrl+s", "done", "Keep", id="dialog.keep", priority=True),
    ]

    def __init__(self, question: str, text: str = "") -> None:
        super().__init__()
        self._question, self._text = question, text

    def compose(self) -> ComposeResult:
        """Question, text, keys."""
        with Vertical():
            yield Label(self._question, markup=False)
            yield TextArea(self._text, soft_wrap=True)
            yield Label("Ctrl+S keeps it, Escape leaves it as it was", markup=False, classes="hint")

    def on_mount(self) -> None:
        """Where one writes."""
        self.query_one(TextArea).focus()

    def action_done(self) -> None:
        """Take the text."""
        self.dismiss(self.query_one(TextArea).text)
