"""Asks for the parameters of a text, a line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static

from localllm.terminal_text import safe_line


class ParametersScreen(ModalScreen[dict[str, str] | None]):
    """One field a parameter, with its first answer in it; None where the person leaves."""

    BINDING_GROUP_TITLE = "Parameters"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave", id="parameters.leave")]
    DEFAULT_CSS = """
    ParametersScreen {
        align: center middle;
        #parameters {
            width: 70%; max-width: 70; min-width: 18; height: auto; max-height: 80%; padding: 1 2;
            background: $surface; border: round $panel; border-title-color: $text;
        }
        Label { color: $text-muted; }
        Input { border: none; height: 1; padding: 0 1; margin-bottom: 1; background: $panel; &:focus { border: none; } }
        #keys { height: 1; color: $text-muted; }
    }
    .-plain ParametersScreen #parameters { border: none; }
    """

    def __init__(self, name: str, parameters: tuple[str, ...], defaults: Mapping[str, str]) -> None:
        super().__init__()
        self._called = name
        self._parameters = parameters
        self._defaults = defaults

    def compose(self) -> ComposeResult:
        """Name and field, one under the other."""
        with VerticalScroll(id="parameters", can_focus=False) as box:
            box.border_title = safe_line(self._called)
            for parameter in self._parameters:
                yield Label(safe_line(parameter.replace("_", " ")), markup=False)
                yield Input(self._defaults.get(parameter, ""), compact=True)
            yield Static("Enter goes on · Escape leaves", id="keys", markup=False)

    def on_mount(self) -> None:
        """Begin with the first."""
        self.query(Input).first().focus()

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        fields = list(self.query(Input))
        at = fields.index(event.input)
        if at + 1 < len(fields):
            fields[at + 1].focus()
        else:
            self.dismiss({name: field.value for name, field in zip(self._parameters, fields, strict=True)})

    def action_leave(self) -> None:
        """Not now."""
        self.dismiss(None)
