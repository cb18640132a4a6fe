"""The text of the prompt: keys, history, Vim, pastes. What is done with the text is the composer's matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from localllm_tui.look.dressed import key_of
from localllm_tui.look.terminal_keys import tell_alt_enter
from localllm_tui.prompt import vim
from localllm_tui.prompt.sent import SentWalk
from localllm_tui.prompt.vim import Buffer, Vim
from localllm_tui.widgets.completion import CompletionList
from rich.text import Text
from textual import events
from textual.actions import SkipAction
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.widgets import TextArea

# Shift+Enter reaches no program in many terminals: the key that is named is the first, which works in all of them.
_HINTS = (
    "Ask anything    {send} sends · {newline} new line · @ file · / command",
    "{send} sends · {newline} new line",
    "{newline}: new line",
    "",
)
MAX_ROWS = 12
# Control characters as the one-column pictures that Unicode has of them, so that a paste is kept and obeyed by nobody.
_PICTURES = {code: chr(0x2400 + code) for code in range(0x20) if code != 9} | {0x7F: "\u2421"}
_PICTURES |= dict.fromkeys(range(0x80, 0xA0), "\ufffd")


class PromptArea(TextArea):
    """A text area that Enter sends."""

    BINDING_GROUP_TITLE = "The prompt"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Send", id="composer.send", priority=True),
        Binding("ctrl+j,shift+enter,alt+enter", "newline", "New line", id="composer.newline", priority=True),
        Binding("ctrl+g", "editor", "Write in your editor", id="composer.editor"),
        Binding("f6,f7", "pass_on", "", show=False),  # a text area's own, but screens have a better use for them
        Binding("up", "cursor_up", "Up; from the first line to what was sent before", id="composer.up", show=False),
        Binding(
            "down", "cursor_down", "Down; from the last line to what was sent after", id="composer.down", show=False
        ),
    ]
    DEFAULT_CSS = """
    PromptArea {
        height: auto; min-height: 3; max-height: 12; padding: 0 1; border: round $foreground 20%;
        background: transparent; scrollbar-size-vertical: 1;
        &:focus { border: round $primary; }
        & .text-area--cursor-line { background: transparent; }
    }
    """

    @dataclass
    class SendAsked(Message):
        """Enter."""

    @dataclass
    class EditorAsked(Message):
        """The text is to be edited elsewhere."""

    @dataclass
    class Accepted(Message):
        """The highlighted completion is wanted; `sends`: by the key that sends, too."""

        sends: bool

    @dataclass
    class Dismissed(Message):
        """The list of completions is not wanted for what is being typed."""

    @dataclass
    class Pasted(Message):
        """A paste that is too long to be text."""

        text: str

    def __init__(self, completions: CompletionList, *, paste_chars: int, has_vim: bool) -> None:
        tell_alt_enter()
        super().__init__(highlight_cursor_line=False)
        self.sent = SentWalk()
        self._completions = completions
        self._paste_chars = paste_chars
        self._vim: Vim | None = Vim() if has_vim else None
        self.set_class(has_vim, "-vim")
        self._show_mode()

    @property
    def index(self) -> int:
        """The cursor's place, in characters."""
        return self.index_of(self.cursor_location)

    def index_of(self, location: tuple[int, int]) -> int:
        """A place in characters."""
        lines = self.document.lines
        return sum(len(line) + 1 for line in lines[: location[0]]) + location[1]

    def location_of(self, index: int) -> tuple[int, int]:
        """A place as row and column."""
        before = self.text[:index]
        return before.count("\n"), index - (before.rfind("\n") + 1)

    def change(self, text: str, cursor: int) -> None:
        """Another text, as one edit of what differs, and another cursor; can be undone."""
        old = self.text
        if text != old:
            start, bound = 0, min(len(old), len(text))
            while start < bound and old[start] == text[start]:
                start += 1
            end = 0
            while end < bound - start and old[-1 - end] == text[-1 - end]:
                end += 1
            first, last = self.location_of(start), self.location_of(len(old) - end)
            self.history.checkpoint()
            self.replace(text[start : len(text) - end], first, last, maintain_selection_offset=False)
        self.move_cursor(self.location_of(cursor))

    def get_line(self, line_index: int) -> Text:
        """A line as it may be shown."""
        line = super().get_line(line_index)
        return line if line.plain.isprintable() else Text(line.plain.translate(_PICTURES), end="", no_wrap=True)

    def render_line(self, y: int) -> Strip:
        """See TextArea; nothing where there is no room for a column."""
        return super().render_line(y) if self.content_size.width > 0 else Strip.blank(self.size.width)

    def on_resize(self) -> None:
        """The longest hint that fits; at most half of the terminal for the prompt."""
        keys = {name: key_of(self.app, f"composer.{name}") for name in ("send", "newline")}
        hints = (Content(hint.format_map(keys)) for hint in _HINTS)
        self.placeholder = next((hint for hint in hints if hint.cell_length <= self.content_size.width), "")
        self.styles.max_height = max(3, min(MAX_ROWS, self.app.size.height // 2))

    # --- keys -----------------------------------------------------------------------------------------------------

    async def _on_key(self, event: events.Key) -> None:
        """Completion first, then Vim, then what a text area does."""
        if self._completions.is_open and self._complete(event.key):
            event.stop()
            event.prevent_default()
        elif self._vim is not None and self._press(event):
            self._restart_blink()
            event.stop()
            event.prevent_default()
        elif self._vim is None and event.key.startswith("alt+"):
            # Most terminals send Alt+S as an escape before "s": a text area would write the letter.
            event.prevent_default()

    def _complete(self, key: str) -> bool:
        """Whether the open list of completions took the key."""
        match key:
            case "up" | "down":
                self._completions.move(1 if key == "down" else -1)
            case "tab" | "enter":
                self.post_message(self.Accepted(sends=key == "enter"))
            case "escape":
                self._completions.show(())
                self.post_message(self.Dismissed())
            case _:
                return False
        return True

    def _press(self, event: events.Key) -> bool:
        """Whether Vim took the key."""
        assert self._vim is not None
        key = event.character if event.is_printable and event.character else event.key
        step = vim.press(self._vim, Buffer(self.text, self.index), key)
        self._vim = step.vim
        self._show_mode()
        if step.effect == "pass":
            return False
        for _ in range(min(step.times, 100)):
            if step.effect == "undo":
                self.undo()
            elif step.effect == "redo":
                self.redo()
        if not step.effect:
            self.change(step.buffer.text, step.buffer.cursor)
        return True

    def _show_mode(self) -> None:
        if self._vim is not None:
            mode = "NORMAL" if self._vim.mode == "normal" else "INSERT"
            self.border_subtitle = f"{self._vim.keys} {mode}".strip()

    async def _on_paste(self, event: events.Paste) -> None:
        """Kept as it is, but for its line ends; what is long becomes an attachment."""
        event.stop()
        event.prevent_default()
        self._insert_paste(event.text)

    def action_paste(self) -> None:
        """Paste what was copied inside the chat."""
        self._insert_paste(self.app.clipboard)

    def _insert_paste(self, pasted: str) -> None:
        text = pasted.replace("\r\n", "\n").replace("\r", "\n")
        if len(text) > self._paste_chars:
            self.post_message(self.Pasted(text))
        elif text:
            result = self.replace(text, *self.selection, maintain_selection_offset=False)
            self.move_cursor(result.end_location)

    # --- actions --------------------------------------------------------------------------------------------------

    def action_submit(self) -> None:
        """Send, or take the completion that is highlighted."""
        self.post_message(self.Accepted(sends=True) if self._completions.is_open else self.SendAsked())

    def action_newline(self) -> None:
        """A line end in the text."""
        self.replace("\n", *self.selection, maintain_selection_offset=False)

    def action_pass_on(self) -> None:
        """Not here."""
        raise SkipAction

    def action_editor(self) -> None:
        """Write elsewhere."""
        self.post_message(self.EditorAsked())

    def action_cursor_up(self, select: bool = False) -> None:
        """Up; at the first line what was sent before, once the cursor is at its start."""
        if select or not self.cursor_at_first_line:
            super().action_cursor_up(select)
        elif self.text and not self.sent.is_shown(self.text) and not self.cursor_at_start_of_text:
            self.move_cursor((0, 0))
        elif (text := self.sent.older(self.text)) is not None:
            self.change(text, len(text))

    def action_cursor_down(self, select: bool = False) -> None:
        """Down; at the last line what was sent after."""
        if select or not self.cursor_at_last_line:
            super().action_cursor_down(select)
        elif (text := self.sent.newer()) is not None:
            self.change(text, len(text))
        else:
            self.move_cursor(self.document.end)
