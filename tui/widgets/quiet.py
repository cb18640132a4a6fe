"""Fields and lists without a box: what is chosen or written in stands out by its ground alone."""

from __future__ import annotations

from textual.widgets import Input, OptionList


class QuietInput(Input):
    """A line to write in."""

    DEFAULT_CSS = """
    QuietInput {
        height: 1; border: none; padding: 0 1; background: $panel;
        &:focus { border: none; background-tint: transparent; }
    }
    """


class QuietList(OptionList):
    """A list with a bar on what is chosen, whether the keys are here or in a field above."""

    DEFAULT_CSS = """
    QuietList {
        border: none; padding: 0; background: transparent; text-wrap: nowrap; text-overflow: ellipsis;
        &:focus { border: none; background-tint: transparent; }
        & > .option-list--option { padding: 0 1; }
        & > .option-list--option-highlighted { background: $panel; color: $foreground; text-style: none; }
        &:focus > .option-list--option-highlighted { background: $panel; color: $foreground; text-style: none; }
        &:nocolor > .option-list--option-highlighted { text-style: reverse; }
    }
    """
