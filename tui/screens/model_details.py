"""All that is known of one model: facts, metadata, template, licence, tensors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from localllm_tui.screens.dialog import Dialog
from localllm_tui.screens.model_about import about, licence_text, metadata_lines, own_lines, tensor_lines
from localllm_tui.screens.model_rows import ModelEntry
from localllm_tui.turns.turn import words
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static, TabbedContent, TabPane

from localllm.api import Backend
from localllm.api.keeper import HasKeeper
from localllm.errors import LocalLLMError
from localllm.terminal_text import safe_stream

_TABS = tuple((name.lower(), name) for name in ("About", "Metadata", "Template", "Licence", "Tensors"))


class ModelDetailsScreen(Dialog[None]):
    """One model. What its file says is read when this opens; what cannot be read is said in its place."""

    BINDING_GROUP_TITLE = "In the details of a model"
    DEFAULT_CSS = """
    ModelDetailsScreen > Vertical { width: 96; max-width: 96%; height: 90%; padding: 1 1 0 1; border: none; }
    ModelDetailsScreen TabPane { padding: 1 1; }
    ModelDetailsScreen VerticalScroll { height: 1fr; }
    ModelDetailsScreen TabPane Static { width: 100%; }
    ModelDetailsScreen.-narrow > Vertical { height: 100%; max-height: 100%; padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave", "Close", id="details.close"),
        Binding("right", "tab(1)", "Next part", id="details.next"),
        Binding("left", "tab(-1)", "Part before", id="details.previous"),
    ]

    def __init__(self, backend: Callable[[], Awaitable[Backend]], entry: ModelEntry) -> None:
        super().__init__()
        self._backend = backend
        self._entry = entry

    def compose(self) -> ComposeResult:
        """A part a tab."""
        with Vertical(), TabbedContent():
            for name, title in _TABS:
                with TabPane(title, id=f"tab-{name}"), VerticalScroll():
                    yield Static("…", id=f"part-{name}", markup=False)

    def on_mount(self) -> None:
        """First what is known already."""
        self._put("about", about(self._entry, self._columns))
        self._put("licence", licence_text(None, self._entry))
        self._read()

    @property
    def _columns(self) -> int:
        return max(16, min(88, self.app.size.width - 8))

    def part(self, name: str) -> Static:
        """What a tab shows."""
        return self.query_one(f"#part-{name}", Static)

    def action_tab(self, step: int) -> None:
        """The part beside this one."""
        tabs = self.query_one(TabbedContent)
        names = [f"tab-{name}" for name, _ in _TABS]
        tabs.active = names[(names.index(tabs.active) + step) % len(names)]

    @work
    async def _read(self) -> None:
        if not self._entry.is_installed:
            self._no_file("it is not installed: only what the catalogue says is known")
            return
        try:
            backend = await self._backend()
            if not isinstance(backend, HasKeeper):
                self._no_file("the file cannot be read from here")
                return
            details = await backend.keeper.details(self._entry.name, tensors=True)
        except LocalLLMError as exc:
            self._no_file(words(exc))
            return
        columns = self._columns
        self._put("about", Content("\n").join([about(self._entry, columns), *own_lines(details, columns)]))
        self._put("metadata", metadata_lines(details))
        self._put("template", safe_stream(details.template) if details.template else "it has no chat template")
        self._put("licence", licence_text(details, self._entry))
        self._put("tensors", tensor_lines(details.tensors))

    def _no_file(self, why: str) -> None:
        for name in ("metadata", "template", "tensors"):
            self._put(name, safe_stream(why))

    def _put(self, name: str, text: Content | str) -> None:
        self.part(name).update(text)
