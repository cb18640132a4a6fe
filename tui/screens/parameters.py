"""Asks for the parameters of a text, a line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from localllm_tui.look.dressed import key_of
from localllm_tui.screens.dialog import Dialog
from localllm_tui.widgets.quiet import QuietInput
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Input, Label, Static

from localllm.terminal_text import safe_line


class ParametersScreen(Dialog[dict[str, str] | None]):
    """One field a parameter, with its first answer in it; None where the person leaves."""

    BINDING_GROUP_TITLE = "Parameters"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "next", "To the next field, or done", show=False, priority=True, id="parameters.next")
    ]
    DEFAULT_CSS = """
    ParametersScreen {
        & > VerticalScroll { width: 70%; max-width: 70; }
        Label { color: $text-muted; }
        QuietInput { margin-bottom: 1; }
    }
    """

    def __init__(self, name: str, parameters: tuple[str, ...], defaults: Mapping[str, str]) -> None:
        super().__init__()
        self._called = name
        self._parameters = parameters
        self._defaults = defaults

    def compose(self) -> ComposeResult:
        """Name and field, one under the other."""
        with VerticalScroll(can_focus=False) as box:
            box.border_title = safe_line(self._called)
            for parameter in self._parameters:
                yield Label(safe_line(parameter.replace("_", " ")), markup=False)
                yield QuietInput(self._defaults.get(parameter, ""))
            on, leave = key_of(self.app, "parameters.next"), key_of(self.app, "dialog.leave")
            yield Static(f"{on} goes on · {leave} leaves", classes="hint", markup=False)

    def on_mount(self) -> None:
        """Begin with the first."""
        self.query(Input).first().focus()

    def action_next(self) -> None:
        """To the next field; after the last one it is done."""
        fields = list(self.query(Input))
        at = next((at for at, field in enumerate(fields) if field.has_focus), -1)
        if at + 1 < len(fields):
            fields[at + 1].focus()
        else:
            self.dismiss({name: field.value for name, field in zip(self._parameters, fields, strict=True)})
