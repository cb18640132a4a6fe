"""Models in a list: those that are here, and those one may have. It says which one is meant and decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from localllm_tui.widgets.quiet import QuietList
from textual import events
from textual.content import Content
from textual.widgets.option_list import Option

_TONES = {"": "", "accent": "$text-accent", "muted": "$text-muted", "warning": "$text-warning"}


class Group(NamedTuple):
    """A heading and what stands below it: pairs of an id and what draws its row, pieces of text with their tones."""

    title: str
    rows: Sequence[tuple[str, Callable[[int], Sequence[tuple[str, str]]]]]


class ModelList(QuietList):
    """Rows by id, under headings. The row that was highlighted stays so as long as it is there."""

    DEFAULT_CSS = """
    ModelList { height: 1fr; padding: 0 1; scrollbar-gutter: stable; }
    ModelList > .option-list--option { padding: 0; }
    ModelList > .option-list--option-disabled { color: $text-muted; text-style: bold; }
    ModelList > .option-list--option-highlighted { background: $surface; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._groups: tuple[Group, ...] = ()
        self._drawn_for = 0

    @property
    def chosen(self) -> str | None:
        """The id of the row that is highlighted."""
        option = self.highlighted_option
        return None if option is None else option.id

    def show(self, groups: Sequence[Group]) -> None:
        """Show these rows in place of the others."""
        self._groups = tuple(group for group in groups if group.rows)
        self._draw()

    def on_resize(self, _event: events.Resize) -> None:
        """Rows are as wide as there is room."""
        if self._groups and self._columns != self._drawn_for:
            self._draw()

    def on_click(self, event: events.Click) -> None:
        """The first click looks at a model, a click on the one that is highlighted takes it."""
        clicked = event.style.meta.get("option")
        if clicked is None or clicked == self.highlighted or self.options[clicked].disabled:
            return
        event.prevent_default()
        self.highlighted = clicked

    @property
    def _columns(self) -> int:
        return max(8, self.scrollable_content_region.width)

    def _draw(self) -> None:
        before, scroll = self.chosen, self.scroll_y
        columns = self._drawn_for = self._columns
        options: list[Option] = []
        for group in self._groups:
            if group.title:
                options.append(Option(Content(f"\n{group.title}" if options else group.title), disabled=True))
            options += [Option(_line(draw(columns)), id=id_) for id_, draw in group.rows]
        self.set_options(options)
        ids = [option.id for option in options]
        first = next((index for index, id_ in enumerate(ids) if id_ is not None), None)
        stays = before is not None and before in ids
        self.highlighted = ids.index(before) if stays else first
        if stays:
            self.scroll_to(y=scroll, animate=False)


def _line(pieces: Sequence[tuple[str, str]]) -> Content:
    return Content.assemble(*((text, _TONES[tone]) for text, tone in pieces))
