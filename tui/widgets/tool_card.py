"""A tool call as it is seen: what is called with what, whether it may, what came back. It asks and decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, Static

from localllm.api import ToolCall
from localllm.terminal_text import safe_line, safe_stream

CallState = Literal["asking", "running", "done", "refused", "failed"]
Extent = Literal["once", "chat", "always"]

_WORDS: dict[CallState, tuple[str, str]] = {
    "asking": ("?", "may it run?"),
    "running": ("…", "running"),
    "done": ("✓", "done"),
    "refused": ("✗", "refused"),
    "failed": ("!", "failed"),
}


class ToolCard(Vertical, can_focus=True):
    """One call. Asking, it has the keys y (once), c (this chat), a (always) and n."""

    DEFAULT_CSS = """
    ToolCard { height: auto; margin: 1 0 0 0; padding: 0 1; border-left: thick $panel; }
    ToolCard:focus { border-left: thick $accent; }
    ToolCard.-asking { border-left: thick $warning; }
    ToolCard Static { height: auto; }
    ToolCard .tool-result { color: $text-muted; max-height: 12; display: none; }
    ToolCard.-open .tool-result { display: block; }
    ToolCard Horizontal { height: auto; display: none; }
    ToolCard.-asking Horizontal { display: block; }
    ToolCard Button { margin: 0 1 0 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer('once')", "Allow once", id="tool.once"),
        Binding("c", "answer('chat')", "Allow in this chat", id="tool.chat"),
        Binding("a", "answer('always')", "Allow always", id="tool.always"),
        Binding("n", "refuse", "Refuse", id="tool.refuse"),
        Binding("enter,space", "fold", "Show or hide the result", id="tool.fold"),
    ]

    @dataclass
    class Answered(Message):
        """The person's answer to a call that asks."""

        call_id: str
        allowed: bool
        extent: Extent

    def __init__(self, call: ToolCall, state: CallState, result: str | None = None) -> None:
        super().__init__()
        self.call = call
        self.state: CallState = state
        self.result = result

    def compose(self) -> ComposeResult:
        """The call, the answers, the result."""
        yield Static(classes="tool-call", markup=False)
        with Horizontal():
            yield Button("Once", compact=True, id="once", variant="primary")
            yield Button("This chat", compact=True, id="chat")
            yield Button("Always", compact=True, id="always")
            yield Button("No", compact=True, id="refuse")
        yield Static(classes="tool-result", markup=False)

    def on_mount(self) -> None:
        """Fill it."""
        self.show(self.call, self.state, self.result)

    def show(self, call: ToolCall, state: CallState, result: str | None) -> None:
        """How the call stands now."""
        self.call, self.state, self.result = call, state, result
        if not self.is_mounted:
            return
        sign, words = _WORDS[state]
        head = Content.assemble(
            (f"{sign} ", "$text-muted"),
            (safe_line(call.name), "bold"),
            (f"  {words}\n", "$text-muted"),
            (safe_stream(call.arguments), "$text-muted"),
        )
        self.query_one(".tool-call", Static).update(head)
        self.query_one(".tool-result", Static).update(Content(safe_stream(result or "")))
        self.set_class(state == "asking", "-asking")

    def action_answer(self, extent: Extent) -> None:
        """Yes, this far."""
        if self.state == "asking":
            self.post_message(self.Answered(self.call.id, True, extent))

    def action_refuse(self) -> None:
        """No."""
        if self.state == "asking":
            self.post_message(self.Answered(self.call.id, False, "once"))

    def action_fold(self) -> None:
        """Show or hide the result."""
        self.toggle_class("-open")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """The same by mouse."""
        event.stop()
        match event.button.id:
            case "once" | "chat" | "always" as extent:
                self.action_answer(extent)
            case _:
                self.action_refuse()
