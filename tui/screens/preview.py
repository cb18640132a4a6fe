"""Shows what is attached, as it would be sent."""

from __future__ import annotations

from typing import ClassVar

from localllm_tui.history.values import Attachment
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from localllm.terminal_text import safe_line, safe_stream

MAX_CHARS = 60_000


class PreviewScreen(ModalScreen[None]):
    """The beginning of each file, under its name."""

    BINDING_GROUP_TITLE = "What is attached"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "app.pop_screen", "Leave", id="preview.leave"),
    ]
    DEFAULT_CSS = """
    PreviewScreen {
        align: center middle;
        #preview {
            width: 90%; max-width: 120; height: 85%; padding: 0 2; background: $surface; scrollbar-size-vertical: 1;
            border: round $primary; border-title-color: $primary; border-subtitle-color: $text-muted;
        }
    }
    .-plain PreviewScreen #preview { border: none; }
    """

    def __init__(self, name: str, attachments: tuple[Attachment, ...]) -> None:
        super().__init__()
        self._called = name
        self._attachments = attachments

    def compose(self) -> ComposeResult:
        """One text."""
        with VerticalScroll(id="preview") as box:
            box.border_title = safe_line(self._called)
            box.border_subtitle = "Escape"
            yield Static(_content(self._attachments), markup=False)


def _content(attachments: tuple[Attachment, ...]) -> Content:
    parts: list[str | tuple[str, str]] = []
    left = MAX_CHARS
    for item in attachments:
        if len(attachments) > 1:
            parts.append((f"{safe_line(item.name)}\n", "bold $primary"))
        parts.append(safe_stream(item.text[:left]).rstrip("\n"))
        if len(item.text) > left:
            parts.append(("\n… only its beginning is shown here; all of it is sent", "$text-muted"))
        parts.append("\n\n")
        left -= len(item.text)
        if left <= 0:
            break
    return Content.assemble(*parts[:-1])
