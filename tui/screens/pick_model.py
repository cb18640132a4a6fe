"""Choosing one of the installed models: to switch in mid-conversation, or to ask beside the one that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from localllm_tui.turns.turn import words
from localllm_tui.widgets.model_picker import ModelPicker, PickedModel
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Label

from localllm.api import Backend
from localllm.errors import LocalLLMError
from localllm.terminal_text import count, safe_stream, size


class PickModelScreen(ModalScreen[str | None]):
    """A name, or None. `current` answers now; `without` is no choice."""

    DEFAULT_CSS = """
    PickModelScreen { align: center middle; background: $background 60%; }
    PickModelScreen > Vertical {
        width: 64; max-width: 94%; height: auto; max-height: 90%; padding: 1 2; background: $surface;
        border: round $border-blurred;
    }
    PickModelScreen Label { width: 100%; color: $text-muted; }
    PickModelScreen #pick-title { color: $foreground; text-style: bold; margin: 0 0 1 0; }
    PickModelScreen #pick-note { margin: 1 0 0 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Leave", id="dialog.leave")]

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

    def compose(self) -> ComposeResult:
        """What is asked, and the list."""
        with Vertical():
            yield Label(self._title, markup=False, id="pick-title")
            yield ModelPicker()
            yield Label("looking…", markup=False, id="pick-note")

    def on_mount(self) -> None:
        """The list comes when the Backend is there."""
        self._fill()

    @work
    async def _fill(self) -> None:
        note = self.query_one("#pick-note", Label)
        try:
            backend = await self._backend()
            loaded = {model.name for model in await backend.list_loaded()}
            infos = [info for info in await backend.list_models() if info.name != self._without]
        except LocalLLMError as exc:
            note.update(safe_stream(words(exc)))
            return
        chat = [info for info in infos if not ({"embed", "rerank"} & set(info.capabilities))]
        self.query_one(ModelPicker).show(
            [
                PickedModel(
                    info.name,
                    "  ".join(filter(None, (count(info.num_params), info.quant, size(info.size_bytes)))),
                    info.name in loaded,
                    info.name == self._current,
                )
                for info in chat
            ]
        )
        note.update("" if chat else "no other model is installed; the Models screen has more")
        note.display = not chat

    @on(ModelPicker.Picked)
    def _picked(self, event: ModelPicker.Picked) -> None:
        event.stop()
        self.dismiss(event.name)
