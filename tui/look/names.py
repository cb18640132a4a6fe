"""How a model is called on the screen: one that is a file by the file's name, any other as it is."""

from __future__ import annotations

import re

from textual.content import Content

from localllm.terminal_text import safe_line

_PATH = re.compile(r"(?:\.{1,2}[\\/]|[\\/]|~[\\/]|[A-Za-z]:[\\/]).*")


def shown_model(name: str) -> str:
    """The model's name fit for a line. The path is for tooltips and details."""
    if _PATH.fullmatch(name):
        name = re.split(r"[\\/]", name.rstrip("\\/"))[-1] or name
    return safe_line(name)


def tooltip(name: str) -> Content | None:
    """The whole name, where `shown_model` leaves something out."""
    whole = safe_line(name)
    return Content(whole) if whole != shown_model(name) else None
