"""The line on top: what the conversation is called, and who answers."""

from __future__ import annotations

from localllm_tui.look.names import shown_model, tooltip
from textual.app import RenderResult
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from localllm.terminal_text import cut, safe_line, width


class HeadLine(Widget):
    """Title at the left, model at the right; in a narrow place the title alone."""

    DEFAULT_CSS = "HeadLine { height: 1; padding: 0 2 0 3; }"

    title: reactive[str] = reactive("")
    model: reactive[str] = reactive("")

    def watch_model(self) -> None:
        """Where a file lies is seen under the pointer."""
        self.tooltip = tooltip(self.model)

    def render(self) -> RenderResult:
        """Both in one line."""
        columns = max(0, self.content_size.width)
        model = cut(shown_model(self.model), max(0, columns // 2))
        room = columns - width(model) - 2
        if room < 8:
            return Content.styled(cut(safe_line(self.title) or model, columns), "bold")
        title = cut(safe_line(self.title), room)
        gap = " " * (columns - width(title) - width(model))
        return Content.assemble((title, "bold"), gap, (model, "$text-muted"))
