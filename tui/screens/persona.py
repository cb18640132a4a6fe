"""Picks a persona: a system prompt with a name, a person's own or one that ships."""

from __future__ import annotations

from localllm_tui.options import ChatSettings
from localllm_tui.prompt.personas import personas
from localllm_tui.screens.pick_text import PickTextScreen


class PersonaScreen(PickTextScreen):
    """Gives back the persona that was picked, its `text` the system prompt with its parameters filled in."""

    def __init__(self, settings: ChatSettings, query: str = "") -> None:
        more = ("/persona save NAME keeps this one",)
        super().__init__("Persona", personas(settings), hint="takes it", more=more, query=query)
