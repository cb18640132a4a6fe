"""What is seen where the conversations cannot be opened: why, in words, and the ways on."""

from __future__ import annotations

from typing import Literal

from localllm_tui.widgets.choice_list import ChoiceList, Way
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Label, OptionList

from localllm.errors import LocalLLMError
from localllm.terminal_text import safe_stream

WayOn = Literal["again", "salvage", "without", "leave"]


class OpeningScreen(Screen[WayOn]):
    """Dismissed with what the person chose. `can_salvage`: the file is damaged, so it may be set aside."""

    DEFAULT_CSS = """
    OpeningScreen { align: center middle; }
    OpeningScreen > Vertical { width: 76; max-width: 94%; height: auto; padding: 1 2; }
    OpeningScreen Label { width: 100%; padding: 0 1; margin: 0 0 1 0; }
    OpeningScreen .hint { color: $text-muted; }
    OpeningScreen .head { text-style: bold; }
    """

    def __init__(self, error: LocalLLMError, *, can_salvage: bool) -> None:
        super().__init__()
        self._error, self._can_salvage = error, can_salvage

    def compose(self) -> ComposeResult:
        """The error and the choices."""
        with Vertical():
            yield Label("The conversations cannot be opened", markup=False, classes="head")
            yield Label(safe_stream(self._error.message), markup=False)
            if self._error.hint:
                yield Label(safe_stream(self._error.hint), markup=False, classes="hint")
            ways = [Way("again", "Try again")]
            if self._can_salvage:
                ways.append(Way("salvage", "Set the file aside", "and carry over what is readable"))
            ways.append(Way("without", "Go on without", "nothing of this chat will be kept"))
            ways.append(Way("leave", "Leave"))
            yield ChoiceList(ways)

    def on_mount(self) -> None:
        """Choose by key at once."""
        self.query_one(ChoiceList).focus()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        match event.option.id:
            case "again" | "salvage" | "without" | "leave" as chosen:
                self.dismiss(chosen)
