"""The row of what is attached: a chip each, to be looked at, taken out, or turned back into text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from localllm_tui.prompt.attaching import Holding
from textual import events
from textual.binding import Binding, BindingType
from textual.containers import HorizontalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from localllm import terminal_text
from localllm.terminal_text import cut, safe_line

_CROSS = " ✕"
MAX_NAME = 32


class Chip(Static, can_focus=True):
    """One thing that is attached: its name, size and tokens."""

    BINDING_GROUP_TITLE = "An attachment"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "preview", "Look at it", id="chip.preview"),
        Binding("delete,backspace", "remove", "Take it out", id="chip.remove"),
        Binding("t", "as_text", "Turn it into text", id="chip.text"),
        Binding("left", "app.focus_previous", "The one before", id="chip.before", show=False),
        Binding("right", "app.focus_next", "The next one", id="chip.next", show=False),
    ]

    @dataclass
    class Asked(Message):
        """A person wants something done with what is attached."""

        what: str
        holding: Holding

    def __init__(self, holding: Holding) -> None:
        super().__init__(_label(holding), markup=False)
        self.holding = holding
        self.set_class(bool(holding.problem), "-problem")
        self.set_class(not holding.attachments and not holding.problem, "-text")
        words = [holding.problem, holding.hint, holding.note]
        self.tooltip = Content("\n".join(safe_line(part) for part in words if part) or holding.name)

    def on_click(self, event: events.Click) -> None:
        """On the cross: out with it; elsewhere: look at it."""
        event.stop()
        self._ask("remove" if event.x >= self.size.width - len(_CROSS) else "preview")

    def action_preview(self) -> None:
        """Look at it."""
        self._ask("preview")

    def action_remove(self) -> None:
        """Take it out."""
        self._ask("remove")

    def action_as_text(self) -> None:
        """Put its text where the cursor is."""
        self._ask("text")

    def _ask(self, what: str) -> None:
        self.post_message(self.Asked(what, self.holding))


class AttachmentChips(HorizontalScroll, can_focus=False):
    """All chips; not there while nothing is attached."""

    DEFAULT_CSS = """
    AttachmentChips {
        display: none; height: 1; margin: 0 1; scrollbar-size: 0 0;
        &.-any { display: block; }
        Chip {
            width: auto; height: 1; padding: 0 1; margin: 0 1 0 0; background: $panel; color: $text;
            &:focus { background: $primary; color: $text; text-style: bold; }
            &:hover { background: $primary 40%; }
            &.-problem { background: $error 30%; }
            &.-text { background: transparent; color: $text-muted; }
        }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[Holding, ...] = ()

    def show(self, holdings: Sequence[Holding]) -> None:
        """These and no others; a chip that has the focus keeps it where it stands."""
        if tuple(holdings) == self._shown:
            return
        chips = list(self.query(Chip))
        place = next((at for at, chip in enumerate(chips) if chip.has_focus), None)
        self._shown = tuple(holdings)
        self.set_class(bool(holdings), "-any")
        self.remove_children()
        fresh = [Chip(holding) for holding in holdings]
        self.mount_all(fresh)
        if place is not None and fresh:
            fresh[min(place, len(fresh) - 1)].focus()


def _label(holding: Holding) -> Content:
    num_files = len(holding.attachments)
    facts = [f"{num_files} files" if num_files > 1 else ""]
    if holding.attachments:
        facts.append(terminal_text.size(holding.num_bytes))
    if holding.num_tokens is not None:
        facts.append(f"{holding.num_tokens:,} token{'s' * (holding.num_tokens != 1)}")
    facts.append(holding.problem and "cannot be sent")
    facts.append(holding.note)
    shown = " · ".join(safe_line(fact) for fact in facts if fact)
    return Content.assemble(cut(safe_line(holding.name), MAX_NAME), ("  " + shown, "dim"), _CROSS)
