"""Small dialogs: a line or a text to be written, a question to be answered."""

from __future__ import annotations

from typing import ClassVar

from localllm_tui.look.dressed import key_of
from localllm_tui.screens.dialog import Dialog
from localllm_tui.widgets.quiet import QuietInput
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Label, TextArea


class LineScreen(Dialog[str | None]):
    """One line to be written; None: the person left. An empty line is an answer."""

    DEFAULT_CSS = """
    LineScreen > Vertical { padding: 1; }
    LineScreen Label { padding: 0 1; }
    LineScreen QuietInput, LineScreen .hint { margin: 1 0 0 0; }
    """

    def __init__(self, question: str, text: str = "", hint: str = "") -> None:
        super().__init__()
        self._question, self._text, self._hint = question, text, hint

    def compose(self) -> ComposeResult:
        """Question, line, hint."""
        with Vertical():
            yield Label(self._question, markup=False, classes="head")
            yield QuietInput(self._text)
            if self._hint:
                yield Label(self._hint, markup=False, classes="hint")

    @on(Input.Submitted)
    def _answered(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value)


class TextScreen(Dialog[str | None]):
    """A text to be written; None: the person left it as it was."""

    DEFAULT_CSS = """
    TextScreen > Vertical { padding: 1; }
    TextScreen Label { padding: 0 1; }
    TextScreen .hint { margin: 1 0 0 0; }
    TextScreen TextArea {
        height: 12; border: none; background: $panel; padding: 0 1; margin: 1 0 0 0;
        &:focus { border: none; background-tint: transparent; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "done", "Keep", id="dialog.keep", priority=True)]

    def __init__(self, question: str, text: str = "") -> None:
        super().__init__()
        self._question, self._text = question, text

    def compose(self) -> ComposeResult:
        """Question, text, keys."""
        with Vertical():
            yield Label(self._question, markup=False, classes="head")
            yield TextArea(self._text, soft_wrap=True)
            keep, leave = key_of(self.app, "dialog.keep"), key_of(self.app, "dialog.leave")
            yield Label(f"{keep} keeps it, {leave} changes nothing", markup=False, classes="hint")

    def on_mount(self) -> None:
        """Where one writes."""
        self.query_one(TextArea).focus()

    def action_done(self) -> None:
        """Take the text."""
        self.dismiss(self.query_one(TextArea).text)
