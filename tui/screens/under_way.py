"""UnderWay: something that takes a while and that a person may break off, with what comes of it meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from localllm_tui.look.dressed import key_of
from localllm_tui.screens.dialog import Dialog
from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Label, Static

from localllm.errors import LocalLLMError
from localllm.terminal_text import safe_stream

T = TypeVar("T")


class UnderWay(Dialog[T | LocalLLMError | None]):
    """Runs `job` with a function to say how it goes; gives its result, its error, or None where it was broken off."""

    DEFAULT_CSS = """
    UnderWay VerticalScroll { height: auto; max-height: 14; margin: 1 0; }
    """

    def __init__(self, what: str, job: Callable[[Callable[[str], None]], Awaitable[T]]) -> None:
        super().__init__()
        self._what, self._job = what, job

    def compose(self) -> ComposeResult:
        """What it is, what came, how to end it."""
        with Vertical():
            yield Label(safe_stream(self._what), markup=False, classes="head")
            with VerticalScroll():
                yield Static("", markup=False, id="said")
            yield Label(f"{key_of(self.app, 'dialog.leave')} breaks it off", markup=False, classes="hint")

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

    def action_leave(self) -> None:
        """Break it off."""
        self.workers.cancel_node(self)
        self.dismiss(None)
