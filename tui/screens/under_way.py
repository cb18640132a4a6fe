"""UnderWay: something that takes a while and that a person may break off, with what comes of it meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Label, Static

from localllm.errors import LocalLLMError
from localllm.terminal_text import safe_stream

T = TypeVar("T")


class UnderWay(ModalScreen[T | LocalLLMError | None]):
    """Runs `job` with a function to say how it goes; gives its result, its error, or None where it was broken off."""

    DEFAULT_CSS = """
    UnderWay { align: center middle; background: $background 60%; }
    UnderWay > Vertical {
        width: 72; max-width: 94%; height: auto; max-height: 80%; padding: 1 2; background: $surface;
        border: round $border-blurred;
    }
    UnderWay Label { width: 100%; }
    UnderWay VerticalScroll { height: auto; max-height: 14; margin: 1 0; }
    UnderWay .hint { color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "break_off", "Break off", id="dialog.break_off")]

    def __init__(self, what: str, job: Callable[[Callable[[str], None]], Awaitable[T]]) -> None:
        super().__init__()
        self._what, self._job = what, job

    def compose(self) -> ComposeResult:
        """What it is, what came, how to end it."""
        with Vertical():
            yield Label(safe_stream(self._what), markup=False)
            with VerticalScroll():
                yield Static("", markup=False, id="said")
            yield Label("Escape breaks it off", markup=False, classes="hint")

    def on_mount(self) -> None:
        """Begin."""
        self.query_one(VerticalScroll).anchor()
        self._run()

    @work(exit_on_error=False)
    async def _run(self) -> None:
        try:
            result: T | LocalLLMError = await self._job(self._say)
        except LocalLLMError as exc:
            result = exc
        self.dismiss(result)

    def _say(self, text: str) -> None:
        self.query_one("#said", Static).update(safe_stream(text))

    def action_break_off(self) -> None:
        """End it."""
        self.workers.cancel_node(self)
        self.dismiss(None)
