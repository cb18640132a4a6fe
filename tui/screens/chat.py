"""The chat: transcript, prompt, figures and the list of conversations, and what happens when a person acts on them."""

from __future__ import annotations

from localllm_tui.widgets.composer import Composer
from localllm_tui.widgets.gauge_bar import GaugeBar
from localllm_tui.widgets.sidebar import Sidebar
from localllm_tui.widgets.transcript import Transcript
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.screen import Screen


class ChatScreen(Screen[None]):
    """Where a person lives."""

    def compose(self) -> ComposeResult:
        """Side by side: the list, and the conversation above its prompt."""
        with Horizontal():
            yield Sidebar()
            with Vertical(id="talk"):
                yield Transcript()
                yield GaugeBar()
                yield Composer()

    def on_mount(self) -> None:
        """Typing is what one came for."""
        self.query_one(Composer).focus()
