"""The prompt: where a person writes. It says what was written in a message and sends nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from localllm_tui.history.values import Attachment, Draft
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea


class Composer(TextArea):
    """A text area that Enter sends."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Send", id="composer.send", priority=True),
        Binding("shift+enter,ctrl+j", "newline", "New line", id="composer.newline", priority=True),
    ]

    @dataclass
    class Submitted(Message):
        """The person wants this sent. What was written stays in the composer until `clear_sent`."""

        text: str
        attachments: tuple[Attachment, ...] = ()

    @dataclass
    class Changed(Message):
        """The draft is another one now; posted at most every third of a second."""

        draft: Draft

    def action_submit(self) -> None:
        """Send."""
        if self.text.strip():
            self.post_message(self.Submitted(self.text))

    def action_newline(self) -> None:
        """A line end in the text."""
        self.insert("\n")
