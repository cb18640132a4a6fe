"""A small list of models to choose one from, found by typing parts of its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.fuzzy import FuzzySearch
from textual.message import Message
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from localllm.terminal_text import cut, safe_line, width


class PickedModel(NamedTuple):
    """A model in the list: its name, a few words about it, and whether it is in memory, or answers now."""

    name: str
    words: str = ""
    is_loaded: bool = False
    is_current: bool = False


class ModelPicker(Vertical):
    """Type to narrow, Enter to take. Loaded models come first where nothing was typed."""

    DEFAULT_CSS = """
    ModelPicker { height: auto; max-height: 100%; }
    ModelPicker Input, ModelPicker Input:focus { border: none; height: 1; padding: 0 2; background: $panel; }
    ModelPicker OptionList {
        height: auto; max-height: 14; border: none; padding: 0; margin: 1 0 0 0; background: $surface;
    }
    ModelPicker OptionList > .option-list--option-highlighted { background: $panel; text-style: none; }
    ModelPicker:nocolor OptionList > .option-list--option-highlighted { text-style: reverse; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "move(1)", "Next", id="picker.next", priority=True, show=False),
        Binding("up", "move(-1)", "Previous", id="picker.previous", priority=True, show=False),
    ]

    @dataclass
    class Picked(Message):
        """This one."""

        name: str

    def __init__(self, models: Sequence[PickedModel] = ()) -> None:
        super().__init__()
        self._models = list(models)

    def compose(self) -> ComposeResult:
        """Where one types, and what matches."""
        yield Input(placeholder="Type part of a name")
        yield OptionList(markup=False)

    def on_mount(self) -> None:
        """Ready to type."""
        self._list()
        self.query_one(Input).focus()

    def on_resize(self) -> None:
        """Rows are as wide as there is room."""
        self._list()

    def show(self, models: Sequence[PickedModel]) -> None:
        """These are the models."""
        self._models = list(models)
        if self.is_mounted:
            self._list()

    @property
    def names(self) -> list[str]:
        """What matches, the best first."""
        return [option.id for option in self.query_one(OptionList).options if option.id is not None]

    def action_move(self, step: int) -> None:
        """Up and down, while one types."""
        options = self.query_one(OptionList)
        if options.option_count:
            options.highlighted = ((options.highlighted or 0) + step) % options.option_count

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._list()

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        option = self.query_one(OptionList).highlighted_option
        if option is not None and option.id is not None:
            self.post_message(self.Picked(option.id))

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option.id is not None:
            self.post_message(self.Picked(event.option.id))

    def _list(self) -> None:
        query = self.query_one(Input).value.strip()
        options = self.query_one(OptionList)
        columns = max(16, self.content_size.width)
        found = ranked(self._models, query)
        options.set_options([Option(_row(model, offsets, columns), id=model.name) for model, offsets in found])
        options.highlighted = min(options.highlighted or 0, len(found) - 1) if found else None


def ranked(models: Sequence[PickedModel], query: str) -> list[tuple[PickedModel, Sequence[int]]]:
    """The models whose names match, the best first, each with the places of what matched."""
    if not query:
        return [(model, ()) for model in sorted(models, key=lambda m: (not m.is_current, not m.is_loaded, m.name))]
    search = FuzzySearch()
    scored = [(search.match(query, model.name), model) for model in models]
    hits = [(score, offsets, model) for (score, offsets), model in scored if score > 0]
    hits.sort(key=lambda hit: (-hit[0], hit[2].name))
    return [(model, offsets) for _score, offsets, model in hits]


def _row(model: PickedModel, offsets: Sequence[int], columns: int) -> Content:
    mark = "● " if model.is_loaded else "  "
    words = (
        safe_line(model.words) + (", loaded" if model.is_loaded else "") + (", answers now" if model.is_current else "")
    )
    words = words.removeprefix(", ")
    room = max(8, columns - 4 - width(words))
    shown = safe_line(model.name)
    name = Content(cut(shown, room))
    if shown == model.name:
        for offset in offsets:
            if offset < len(name):
                name = name.stylize("$text-accent bold", offset, offset + 1)
    gap = " " * max(2, columns - 2 - name.cell_length - width(words))
    if name.cell_length + width(words) + 4 > columns:
        return Content.assemble((mark, "$text-accent"), name)
    return Content.assemble((mark, "$text-accent"), name, gap, (words, "$text-muted"))
