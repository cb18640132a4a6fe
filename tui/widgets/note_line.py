"""The line above the prompt, there only when something waits: a message, or new words for an earlier turn."""

from __future__ import annotations

from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from localllm.terminal_text import cut, safe_line, width


class NoteLine(Static):
    """What waits, in one line, and how to have it back. A click is an answer, too."""

    DEFAULT_CSS = """
    NoteLine { height: 1; padding: 0 2; color: $text-muted; display: none; }
    NoteLine.-shown { display: block; }
    """

    @dataclass
    class Clicked(Message):
        """The person wants it back."""

    def __init__(self) -> None:
        super().__init__()
        self._said = ("", "", "")

    def show(self, head: str, text: str = "", hint: str = "") -> None:
        """`head: text (hint)`; nothing where `head` is empty."""
        self._said = head, " ".join(safe_line(" ".join(text.split())).split()), hint
        self.set_class(bool(head), "-shown")
        self._fill()

    def on_resize(self) -> None:
        """Of the words goes what has no room, not of the hint."""
        self._fill()

    def _fill(self) -> None:
        head, words, hint = self._said
        room = min(60, (self.content_size.width or 80) - width(head) - width(hint) - 5)
        shown = f"  {cut(words, room)}" if words and room > 3 else ""
        self.update(Content.assemble((head, "$accent"), shown, (f"   {hint}", "$text-muted")))

    def on_click(self, event: events.Click) -> None:
        """By mouse."""
        event.stop()
        self.post_message(self.Clicked())
