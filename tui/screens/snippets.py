"""Picks a snippet: a text for the prompt, with a name."""

from __future__ import annotations

from localllm_tui.options import ChatSettings
from localllm_tui.prompt.personas import snippets
from localllm_tui.screens.pick_text import PickTextScreen


class SnippetScreen(PickTextScreen):
    """Gives back the snippet that was picked, its `text` ready to be inserted."""

    def __init__(self, settings: ChatSettings, query: str = "") -> None:
        more = ("/snippet save NAME keeps one",)
        super().__init__("Snippet", snippets(settings), hint="inserts it", more=more, query=query)
