"""A dialog in which one of several things is picked, by typing a part of it, by arrow keys or by mouse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList
from textual.widgets.option_list import Option

from localllm.terminal_text import safe_line


class Choice(NamedTuple):
    """One of the things: what is given back, what is read, and what stands behind it."""

    value: str
    text: str
    note: str = ""


class PickScreen(ModalScreen[str | None]):
    """`make` turns what was typed into a choice of its own; without `placeholder` nothing can be typed."""

    BINDING_GROUP_TITLE = "In a dialog"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Leave", id="dialog.leave"),
        Binding("down", "move('cursor_down')", "Down", show=False, priority=True, id="pick.down"),
        Binding("up", "move('cursor_up')", "Up", show=False, priority=True, id="pick.up"),
    ]
    DEFAULT_CSS = """
    PickScreen { align: center middle; background: $background 60%; }
    PickScreen > Vertical {
        width: 60; max-width: 96%; height: auto; max-height: 80%; padding: 0 1; background: $surface;
        border: round $border-blurred;
    }
    PickScreen Label { width: 100%; text-style: bold; padding: 0 1; }
    PickScreen Input {
        border: none; height: 1; padding: 0 1; margin: 1 0 0 0; background: $panel;
        &:focus { border: none; background-tint: transparent; }
    }
    PickScreen OptionList {
        height: auto; max-height: 16; border: none; padding: 0; margin: 1 0 0 0; background: transparent;
        text-wrap: nowrap; text-overflow: ellipsis;
        &:focus { border: none; background: transparent; background-tint: transparent; }
        & > .option-list--option { padding: 0 1; }
        & > .option-list--option-highlighted { background: $panel; color: $foreground; text-style: none; }
        &:focus > .option-list--option-highlighted { background: $panel; color: $foreground; text-style: none; }
        &:nocolor > .option-list--option-highlighted { text-style: underline; }
    }
    """

    def __init__(
        self,
        title: str,
        choices: Sequence[Choice],
        *,
        placeholder: str = "",
        make: Callable[[str], Choice] | None = None,
    ) -> None:
        super().__init__()
        self._title, self._choices, self._placeholder, self._make = title, choices, placeholder, make

    def compose(self) -> ComposeResult:
        """Title, what is typed, choices."""
        with Vertical():
            yield Label(safe_line(self._title), markup=False)
            if self._placeholder:
                yield Input(placeholder=self._placeholder)
            yield OptionList()

    def on_mount(self) -> None:
        """All choices."""
        self._show("")

    def _show(self, typed: str) -> None:
        words = typed.casefold().split()
        found = [one for one in self._choices if all(word in one.text.casefold() for word in words)]
        if self._make is not None and typed.strip() and all(one.text != typed.strip() for one in self._choices):
            found.append(self._make(typed.strip()))
        listed = self.query_one(OptionList)
        listed.clear_options()
        listed.add_options(
            Option(Content.assemble(safe_line(one.text), (f"   {safe_line(one.note)}", "$text-muted")), str(number))
            for number, one in enumerate(found)
        )
        self._found = found
        listed.highlighted = 0 if found else None

    def action_move(self, way: str) -> None:
        """The list's cursor, wherever one types."""
        getattr(self.query_one(OptionList), f"action_{way}")()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._show(event.value)

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        at = self.query_one(OptionList).highlighted
        if at is not None:
            self.dismiss(self._found[at].value)

    @on(OptionList.OptionSelected)
    def _picked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(self._found[event.option_index].value)
