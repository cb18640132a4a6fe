"""The list of ways to go on with what is being typed. It never takes the focus: the text above keeps the keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from localllm_tui.prompt.completing import Completion
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from localllm.terminal_text import cut, safe_line, width


class CompletionList(OptionList, can_focus=False):
    """Completions, one of them highlighted. Hidden while there are none."""

    DEFAULT_CSS = """
    CompletionList {
        display: none; height: auto; max-height: 8; margin: 0 1; padding: 0 1; border: none;
        background: $panel; scrollbar-size-vertical: 1; text-wrap: nowrap; text-overflow: ellipsis;
        &.-open { display: block; }
        &:focus { border: none; }
    }
    """

    @dataclass
    class Chosen(Message):
        """A person clicked on one."""

        completion: Completion

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[Completion, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether there is anything to choose from."""
        return bool(self._shown)

    @property
    def current(self) -> Completion | None:
        """The one that is highlighted."""
        return self._shown[self.highlighted] if self.is_open and self.highlighted is not None else None

    def show(self, completions: Sequence[Completion]) -> None:
        """These, the first highlighted; none closes the list."""
        if tuple(completions) == self._shown:
            return
        self._shown = tuple(completions)
        self.clear_options()
        widest = min(36, max((width(one.label) for one in completions), default=0))
        self.add_options([Option(_line(one, widest)) for one in completions])
        self.highlighted = 0 if completions else None
        self.set_class(self.is_open, "-open")

    def move(self, step: int) -> None:
        """Highlight the next one, or the one before; round at the ends."""
        if self.is_open:
            self.highlighted = ((self.highlighted or 0) + step) % len(self._shown)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A click."""
        event.stop()
        if event.option_index < len(self._shown):
            self.post_message(self.Chosen(self._shown[event.option_index]))


def _line(completion: Completion, columns: int) -> Content:
    label = cut(safe_line(completion.label), 60)
    if not completion.note:
        return Content(label)
    gap = " " * max(2, columns - width(label) + 2)
    return Content.assemble(label, gap, (safe_line(completion.note), "$text-muted"))
