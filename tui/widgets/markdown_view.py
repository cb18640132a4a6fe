"""Markdown that grows: drawn line by line out of finished lines; only its tail is parsed again."""

from __future__ import annotations

from textual.widgets import Static

from localllm.terminal_text import safe_stream


class MarkdownView(Static):
    """One text. `append` grows it, `show` replaces it."""

    def __init__(self, text: str = "") -> None:
        self._source = safe_stream(text)
        super().__init__(self._source, markup=False)

    @property
    def source(self) -> str:
        """The Markdown shown, made safe."""
        return self._source

    def append(self, text: str) -> None:
        """More of it."""
        self._source += safe_stream(text)
        self.update(self._source)

    def show(self, text: str) -> None:
        """Another text."""
        self._source = safe_stream(text)
        self.update(self._source)
