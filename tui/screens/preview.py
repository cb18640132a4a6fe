"""Shows what is attached, as it would be sent, and asks what is to become of it."""

from __future__ import annotations

from typing import ClassVar

from localllm_tui.history.values import Attachment
from localllm_tui.look.dressed import key_of
from localllm_tui.screens.dialog import Dialog
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from localllm.terminal_text import safe_line, safe_stream

MAX_CHARS = 60_000


class Link(Static):
    """Words that do what their key does."""

    def __init__(self, words: str, what: str) -> None:
        super().__init__(words, markup=False)
        self._what = what

    def on_click(self) -> None:
        """As by its key."""
        self.screen.dismiss(self._what)


class PreviewScreen(Dialog[str]):
    """The beginning of each file, under its name. Gives "text", "remove" or ""."""

    BINDING_GROUP_TITLE = "What is attached"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,enter", "leave", "Leave", id="preview.leave"),
        Binding("t", "dismiss('text')", "Turn it into text", id="preview.text"),
        Binding("delete", "dismiss('remove')", "Take it out", id="preview.remove"),
    ]
    DEFAULT_CSS = """
    PreviewScreen {
        & > Vertical { width: 90%; max-width: 120; height: 85%; }
        VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
        #links { height: 1; margin-top: 1; color: $text-muted; }
        &.-narrow #links { layout: vertical; height: auto; }
        Link { width: auto; height: 1; margin: 0 3 0 0; &:hover { color: $text; text-style: underline; } }
    }
    """

    def __init__(self, name: str, attachments: tuple[Attachment, ...]) -> None:
        super().__init__()
        self._called = name
        self._attachments = attachments

    def compose(self) -> ComposeResult:
        """One text, and what may be done."""
        with Vertical() as box:
            box.border_title = safe_line(self._called)
            with VerticalScroll():
                yield Static(_content(self._attachments), id="content", markup=False)
            with Horizontal(id="links"):
                yield Link(f"{key_of(self.app, 'dialog.leave')} leaves", "")
                yield Link(f"{key_of(self.app, 'preview.text')} turns it into text", "text")
                yield Link(f"{key_of(self.app, 'preview.remove')} takes it out", "remove")

    def action_leave(self) -> None:
        """Let it be."""
        self.dismiss("")


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
