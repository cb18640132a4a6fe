"""A tool call as it is seen: what is called with what, whether it may, what came back. It asks and decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from localllm_tui.markdown.safe import safe
from localllm_tui.widgets.turn_head import act
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from localllm.api import ToolCall
from localllm.terminal_text import cut, safe_line

CallState = Literal["asking", "running", "done", "refused", "failed"]
Extent = Literal["once", "chat", "always"]

_WORDS: dict[CallState | None, tuple[str, str, str]] = {
    None: ("·", "$foreground-muted", ""),
    "asking": ("?", "bold $warning", "may it run?"),
    "running": ("…", "$primary", "running"),
    "done": ("✓", "$success", ""),
    "refused": ("✗", "$foreground-muted", "refused"),
    "failed": ("!", "bold $error", "failed"),
}
_ANSWERS = (("once", "y", "allow once"), ("chat", "a", "in this chat"), ("always", "A", "always"), ("no", "n", "no"))
# Enough to judge a call by; a longer argument is opened.
_MAX_ARGUMENT_LINES = 12
_MAX_RESULT = 20_000


class ToolCard(Vertical, can_focus=True):
    """One call. Asking, it takes y (once), a (this chat), A (always) and n; Enter opens what came back.

    `state` None: not known to have run.
    """

    FOCUS_ON_CLICK = False
    DEFAULT_CSS = """
    ToolCard { height: auto; margin: 1 0 0 0; padding: 0 1; border-left: outer $panel; }
    ToolCard.-asking { border-left: outer $warning; }
    ToolCard:focus { background: $surface; }
    ToolCard Static { height: auto; }
    ToolCard .arguments { color: $foreground-muted; }
    ToolCard .result { color: $foreground-muted; display: none; margin: 1 0 0 0; }
    ToolCard.-open .result { display: block; }
    ToolCard .answers { display: none; margin: 1 0 0 0; }
    ToolCard.-asking .answers { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer('once')", "Allow once", id="tool.once"),
        Binding("a", "answer('chat')", "Allow in this chat", id="tool.chat"),
        Binding("A", "answer('always')", "Allow always", id="tool.always"),
        Binding("n", "answer('no')", "Refuse", id="tool.refuse"),
        Binding("enter,space", "fold", "Show or hide what came back", id="tool.fold"),
    ]

    @dataclass
    class Answered(Message):
        """The person's answer to a call that asks."""

        call_id: str
        allowed: bool
        extent: Extent

    class Toggled(Message):
        """A person opened or folded it: what they look at should stay where it is."""

    def __init__(self, call: ToolCall, state: CallState | None, result: str | None = None) -> None:
        super().__init__()
        self.call = call
        self.state = state
        self.result = result
        self._head = Static(classes="call", markup=False)
        self._arguments = Static(classes="arguments", markup=False)
        self._answers = Static(classes="answers", markup=False)
        self._result = Static(classes="result", markup=False)
        self._fill()

    def compose(self) -> ComposeResult:
        """The call, the answers, the result."""
        yield self._head
        yield self._arguments
        yield self._answers
        yield self._result

    def show(self, call: ToolCall, state: CallState | None, result: str | None) -> None:
        """How the call stands now."""
        self.call, self.state = call, state
        self.result = result if result is not None else self.result
        self._fill()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Answers are for a call that asks."""
        return self.state == "asking" if action == "answer" else True

    def action_answer(self, answer: Literal["once", "chat", "always", "no"]) -> None:
        """Yes, this far; or no."""
        if self.state == "asking":
            self.post_message(self.Answered(self.call.id, answer != "no", "once" if answer == "no" else answer))

    def action_fold(self) -> None:
        """Show or hide what came back."""
        self.toggle_class("-open")
        self.post_message(self.Toggled())
        self._fill()

    def on_resize(self) -> None:
        """Answers stay whole."""
        self.call_after_refresh(self._fill)

    def on_click(self, event: events.Click) -> None:
        """The same by mouse."""
        action = event.style.meta.get("turn")
        if action in ("once", "chat", "always", "no"):
            event.stop()
            self.action_answer(action)
        elif self.result and self._head.region.contains(event.screen_x, event.screen_y):
            event.stop()
            self.action_fold()

    def _fill(self) -> None:
        sign, color, words = _WORDS[self.state]
        parts: list[str | Content | tuple[str, str]] = [(f"{sign} ", color), (safe_line(self.call.name), "bold")]
        if words:
            parts.append((f"  {words}", color if self.state == "asking" else "$foreground-muted"))
        if self.result:
            num_lines = self.result.count("\n") + 1
            unit = "line" if num_lines == 1 else "lines"
            arrow = "▾" if self.has_class("-open") else "▸"
            parts.append((f"  {arrow} {num_lines:,} {unit}", "$foreground-muted"))
        self._head.update(Content.assemble(*parts))
        self._arguments.update(
            _arguments(self.call.arguments, is_whole=self.state == "asking" or self.has_class("-open"))
        )
        self._answers.update(_answers(self._answers.content_size.width))
        shown = safe(self.result or "")
        more = len(shown) - _MAX_RESULT
        self._result.update(Content(shown if more <= 0 else f"{shown[:_MAX_RESULT]}\n… {more:,} characters more"))
        self.set_class(self.state == "asking", "-asking")


def _answers(columns: int) -> Content:
    """In lines of `columns`; 0: not known yet. A key stands in one line with its word."""
    parts: list[str | Content | tuple[str, str]] = []
    used = 0
    for answer, key, words in _ANSWERS:
        taken = len(f"{key} {words}")
        fits = not columns or used + 3 + taken <= columns
        if parts:
            parts.append("   " if fits else "\n")
        used = used + 3 + taken if parts and fits else taken
        parts += [act(key, answer, "bold $primary"), act(f" {words}", answer)]
    return Content.assemble(*parts)


def _arguments(text: str, *, is_whole: bool) -> Content:
    """Arguments by name, one a line; as they are where they are no JSON object. `is_whole`: nothing is left out."""
    import json

    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return Content(safe(text if is_whole else cut(safe_line(text), 200)))
    lines: list[Content] = []
    for name, value in found.items():
        words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        shown = safe(words) if is_whole else cut(safe_line(words.replace("\n", " ")), 100)
        lines.append(Content.assemble((f"{safe_line(str(name))} ", "$foreground-muted 70%"), (shown, "$foreground")))
    if not is_whole and len(lines) > _MAX_ARGUMENT_LINES:
        lines[_MAX_ARGUMENT_LINES:] = [Content(f"… {len(found) - _MAX_ARGUMENT_LINES} more")]
    return Content("\n").join(lines)
