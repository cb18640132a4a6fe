"""A short list of ways on, one of which a person takes; each with a word on what it does, or why it cannot be done."""

from __future__ import annotations

from typing import NamedTuple

from localllm_tui.widgets.quiet import QuietList
from textual.content import Content
from textual.widgets.option_list import Option


class Way(NamedTuple):
    """`why_not` None: it can be taken."""

    id: str
    head: str
    words: str = ""
    why_not: str | None = None


class ChoiceList(QuietList):
    """A way takes as many lines as its words need."""

    DEFAULT_CSS = """
    ChoiceList {
        text-wrap: wrap;
        & > .option-list--option-disabled { color: $text-disabled; }
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
