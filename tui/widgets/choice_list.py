"""A short list of ways on, one of which a person takes; each with a word on what it does, or why it cannot be done."""

from __future__ import annotations

from typing import NamedTuple

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option


class Way(NamedTuple):
    """`why_not` None: it can be taken."""

    id: str
    head: str
    words: str = ""
    why_not: str | None = None


class ChoiceList(OptionList):
    """Calm: no box, the chosen line marked."""

    DEFAULT_CSS = """
    ChoiceList {
        height: auto; max-height: 100%; border: none; padding: 0; background: transparent;
        &:focus { border: none; background: transparent; background-tint: transparent; }
        & > .option-list--option { padding: 0 1 1 1; }
        & > .option-list--option-highlighted { background: $panel; color: $foreground; text-style: none; }
        &:focus > .option-list--option-highlighted { background: $panel; color: $foreground; text-style: none; }
        & > .option-list--option-disabled { color: $text-disabled; }
        &:nocolor > .option-list--option-highlighted { text-style: underline; }
    }
    """

    def __init__(self, ways: list[Way]) -> None:
        super().__init__(*(_option(way) for way in ways))


def _option(way: Way) -> Option:
    words = way.why_not or way.words
    parts: list[Content | str | tuple[str, str]] = [(way.head, "bold" if way.why_not is None else "")]
    if words:
        parts += ["\n", (words, "$text-muted")]
    return Option(Content.assemble(*parts), id=way.id, disabled=way.why_not is not None)
