"""Choosing one of the installed models: to switch in mid-conversation, or to ask beside the one that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from localllm_tui.look.names import shown_model
from localllm_tui.screens.finder import Finder
from localllm_tui.turns.turn import words
from localllm_tui.widgets.quiet import QuietInput, QuietList
from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.fuzzy import FuzzySearch
from textual.widgets import Label

from localllm.api import Backend, ModelInfo
from localllm.errors import LocalLLMError
from localllm.terminal_text import count, cut, safe_line, safe_stream, size, width


class PickedModel(NamedTuple):
    """A model in the list: its name, a few words about it, and whether it is in memory, or answers now."""

    name: str
    words: str = ""
    is_loaded: bool = False
    is_current: bool = False


class PickModelScreen(Finder[str | None]):
    """Type to narrow, Enter to take. A name, or None. `current` answers now; `without` is no choice."""

    DEFAULT_CSS = """
    PickModelScreen > Vertical { width: 64; }
    PickModelScreen Label { color: $text-muted; }
    PickModelScreen QuietInput { padding: 0 3; }
    PickModelScreen QuietList { max-height: 14; margin: 1 0 0 0; }
    PickModelScreen #pick-title { color: $foreground; text-style: bold; margin: 0 0 1 0; }
    PickModelScreen #pick-note { margin: 1 0 0 0; }
    """

    def __init__(
        self,
        backend: Callable[[], Awaitable[Backend]],
        *,
        title: str = "Answer with",
        current: str = "",
        without: str = "",
    ) -> None:
        super().__init__()
        self._backend = backend
        self._title, self._current, self._without = title, current, without
        self._models: list[PickedModel] = []
        self._found: list[tuple[PickedModel, Sequence[int]]] = []

    def compose(self) -> ComposeResult:
        """What is asked, and the list."""
        with Vertical():
            yield Label(self._title, markup=False, id="pick-title")
            yield QuietInput(placeholder="Type part of a name")
            yield QuietList()
            yield Label("looking…", markup=False, id="pick-note")

    def on_mount(self) -> None:
        """The list comes when the Backend is there."""
        self._fill()

    @work
    async def _fill(self) -> None:
        note = self.query_one("#pick-note", Label)
        try:
            backend = await self._backend()
            loaded = [model.name for model in await backend.list_loaded()]
            infos = await backend.list_models()
        except LocalLLMError as exc:
            note.update(safe_stream(words(exc)))
            return
        self._models = [model for model in pickable(infos, loaded, self._current) if model.name != self._without]
        self.typed(self.query_one(QuietInput).value)
        note.update("" if self._models else "no other model is installed; the Models screen has more")
        note.display = not self._models

    @property
    def names(self) -> list[str]:
        """What matches, the best first."""
        return [model.name for model, _ in self._found]

    def rows(self) -> Sequence[Content]:
        """A model each, what matched of its name marked."""
        return [_row(model, offsets, self.columns) for model, offsets in self._found]

    def typed(self, text: str) -> None:
        """Those that match. Loaded models come first where nothing was typed."""
        self._found = ranked(self._models, text.strip())
        self.list_rows()

    def take(self, at: int) -> None:
        """This one."""
        self.dismiss(self.names[at])


def pickable(infos: Sequence[ModelInfo], loaded: Sequence[str], current: str) -> list[PickedModel]:
    """The installed models that chat, and those that are here without being installed: `current`, and what is loaded.

    Such a one is a file, say, of which nothing but the name is known.
    """
    models = [
        PickedModel(
            info.name,
            "  ".join(filter(None, (count(info.num_params), info.quant, size(info.size_bytes)))),
            info.name in loaded,
            info.name == current,
        )
        for info in infos
        if not ({"embed", "rerank"} & set(info.capabilities))
    ]
    installed = {info.name for info in infos}
    others = [name for name in dict.fromkeys((current, *loaded)) if name and name not in installed]
    return models + [PickedModel(name, "", name in loaded, name == current) for name in others]


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
    states = ("loaded" if model.is_loaded else "", "answers now" if model.is_current else "")
    shown = shown_model(model.name)
    room = columns - 4 - min(width(shown), columns // 2)
    # Where room is scarce the figures go first, then the states: the mark says one of them, and the name comes first.
    said = (", ".join(filter(None, (safe_line(model.words), *states))), ", ".join(filter(None, states)), "")
    words = next(one for one in said if not one or width(one) <= room)
    name = Content(cut(shown, columns - 2 - (width(words) + 2 if words else 0)))
    if shown == model.name:
        for offset in offsets:
            if offset < len(name):
                name = name.stylize("$text-accent bold", offset, offset + 1)
    gap = " " * (columns - 2 - name.cell_length - width(words))
    return Content.assemble((mark, "$text-accent"), name, gap, (words, "$text-muted"))
