"""A dialog in which one of several things is picked, by typing a part of it, by arrow keys or by mouse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from localllm_tui.screens.finder import Finder
from localllm_tui.widgets.quiet import QuietInput, QuietList
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Label

from localllm.terminal_text import safe_line


class Choice(NamedTuple):
    """One of the things: what is given back, what is read, and what stands behind it."""

    value: str
    text: str
    note: str = ""


class PickScreen(Finder[str | None]):
    """`make` turns what was typed into a choice of its own; without `placeholder` nothing can be typed."""

    DEFAULT_CSS = """
    PickScreen > Vertical { width: 60; max-width: 96%; max-height: 80%; padding: 1; }
    PickScreen Label { text-style: bold; padding: 0 1; }
    PickScreen QuietInput, PickScreen QuietList { margin: 1 0 0 0; }
    PickScreen QuietList { max-height: 16; }
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
        self._found = list(choices)

    def compose(self) -> ComposeResult:
        """Title, what is typed, choices."""
        with Vertical():
            yield Label(safe_line(self._title), markup=False)
            if self._placeholder:
                yield QuietInput(placeholder=self._placeholder)
            yield QuietList()

    def rows(self) -> Sequence[Content]:
        """What it is, and what stands behind it."""
        return [
            Content.assemble(safe_line(one.text), (f"   {safe_line(one.note)}", "$text-muted")) for one in self._found
        ]

    def typed(self, text: str) -> None:
        """Those with all these words."""
        words, text = text.casefold().split(), text.strip()
        self._found = [one for one in self._choices if all(word in one.text.casefold() for word in words)]
        if self._make is not None and text and all(one.text != text for one in self._choices):
            self._found.append(self._make(text))
        self.list_rows()

    def take(self, at: int) -> None:
        """This one."""
        self.dismiss(self._found[at].value)
