"""An app with the chat's looks around one screen, for tests of a screen alone."""

from __future__ import annotations

from typing import Any

from localllm_tui.look.dressed import DressedApp
from localllm_tui.options import ChatSettings
from textual.screen import Screen

NOTHING: Any = object()


class Dressed(DressedApp):
    """Shows the screen; `result` is what it was dismissed with."""

    def __init__(self, screen: Screen[Any], settings: ChatSettings | None = None) -> None:
        super().__init__(settings or ChatSettings())
        self._first = screen
        self.result: Any = NOTHING

    def on_mount(self) -> None:
        """The screen."""
        self.push_screen(self._first, self._keep)

    def _keep(self, result: Any) -> None:
        self.result = result
