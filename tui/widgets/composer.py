"""The prompt: where a person writes. It says what was written in a message and sends nothing itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from localllm_tui.history.values import Attachment, Draft
from localllm_tui.options import ChatSettings
from localllm_tui.prompt.commands import CommandWords
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import TextArea

CountTokens = Callable[[str], Awaitable[int | None]]


class Composer(Vertical):
    """Text, attachments and completion. Files are looked for from `folder`; `commands` are those that `/` offers.

    `count_tokens` counts a text in the background; it gives None where no model is loaded that could.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Send", id="composer.send", priority=True),
        Binding("shift+enter,ctrl+j,alt+enter", "newline", "New line", id="composer.newline", priority=True),
    ]

    @dataclass
    class Submitted(Message):
        """The person wants this sent. What was written stays in the composer until `clear_sent`."""

        text: str
        attachments: tuple[Attachment, ...] = ()

    @dataclass
    class Changed(Message):
        """The draft is another one now; posted at most every third of a second, and when the composer is left."""

        draft: Draft

    @dataclass
    class Command(Message):
        """A slash command, its name without the slash. The composer is empty by then; `put_back` fills it again."""

        name: str
        argument: str

    @dataclass
    class PreviewAsked(Message):
        """The person wants to see an attachment."""

        attachment: Attachment

    def __init__(
        self,
        settings: ChatSettings | None = None,
        *,
        commands: tuple[CommandWords, ...] = (),
        folder: Path | None = None,
        count_tokens: CountTokens | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings or ChatSettings()
        self.commands = commands
        self.folder = folder
        self.count_tokens = count_tokens
        self._edits: int | None = None
        self._attached: tuple[Attachment, ...] = ()
        self._sent: tuple[str, ...] = ()

    def compose(self) -> ComposeResult:
        """What is attached, what may be completed, and the text."""
        yield TextArea()

    @property
    def text(self) -> str:
        """What is written."""
        return self.query_one(TextArea).text

    @text.setter
    def text(self, text: str) -> None:
        self.query_one(TextArea).text = text

    @property
    def draft(self) -> Draft:
        """What is written and attached, as it is this moment; a screen saves it when it leaves."""
        return Draft(self.text, self._attached, self._edits)

    def show(self, draft: Draft) -> None:
        """Another draft; what was written before is gone, so its draft has to be saved first."""
        self.query_one(TextArea).text = draft.text
        self._attached, self._edits = draft.attachments, draft.edits

    def show_sent(self, texts: tuple[str, ...]) -> None:
        """What up and down walk through: what was sent, the newest last."""
        self._sent = texts

    def clear_sent(self) -> None:
        """What was submitted has been taken: empty, but for what was typed since."""
        self.show(Draft())

    def put_back(self, text: str) -> None:
        """What failed comes back, before what has been written since."""
        self.query_one(TextArea).text = text + self.text

    def insert(self, text: str) -> None:
        """Text at the cursor: a snippet."""
        self.query_one(TextArea).insert(text)

    def attach(self, attachment: Attachment) -> None:
        """One more attachment, such as what was piped in."""
        self._attached = (*self._attached, attachment)

    def recount(self) -> None:
        """The model is another one, or is loaded now: count the attachments again."""

    def focus(self, scroll_visible: bool = True) -> Composer:
        """Where to type."""
        self.query_one(TextArea).focus(scroll_visible)
        return self

    def action_submit(self) -> None:
        """Send."""
        if self.text.strip():
            self.post_message(self.Submitted(self.text, self._attached))

    def action_newline(self) -> None:
        """A line end in the text."""
        self.insert("\n")
