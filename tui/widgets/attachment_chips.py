"""The row of what is attached: a chip each, to be looked at, taken out, or turned back into text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from localllm_tui.prompt.attaching import Holding
from textual import events
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from localllm import terminal_text
from localllm.terminal_text import cut, safe_line, width

_CROSS = " ✕"
MAX_NAME = 32


class Chip(Static, can_focus=True):
    """One thing that is attached: its name, size and tokens."""

    BINDING_GROUP_TITLE = "An attachment"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "preview", "Look at it", id="chip.preview"),
        Binding("delete,backspace", "remove", "Take it out", id="chip.remove"),
        Binding("t", "as_text", "Turn it into text", id="chip.text"),
        Binding("escape", "back", "Back to the text", id="chip.back"),
        Binding("left", "app.focus_previous", "The one before", id="chip.before", show=False),
        Binding("right", "app.focus_next", "The next one", id="chip.next", show=False),
    ]

    @dataclass
    class Asked(Message):
        """A person wants something done with what is attached."""

        what: str
        holding: Holding

    def __init__(self, holding: Holding, columns: int) -> None:
        super().__init__(markup=False)
        self.show(holding, columns)

    def show(self, holding: Holding, columns: int) -> None:
        """Another thing in its place, in at most `columns`."""
        self.holding = holding
        self.update(_label(holding, columns))
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

    def action_back(self) -> None:
        """Write on."""
        self._ask("back")

    def _ask(self, what: str) -> None:
        self.post_message(self.Asked(what, self.holding))


class AttachmentChips(Vertical):
    """All chips, in as many rows as they need, up to three that are seen at once."""

    DEFAULT_CSS = """
    AttachmentChips {
        display: none; height: auto; max-height: 3; margin: 0 1; overflow-y: auto; scrollbar-size-vertical: 1;
        &.-any { display: block; }
        Horizontal { height: 1; }
        Chip {
            width: auto; height: 1; padding: 0 1; margin: 0 1 0 0; background: $panel; color: $text;
            text-wrap: nowrap; text-overflow: ellipsis;
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
        self._rows: list[list[int]] = []

    def show(self, holdings: Sequence[Holding]) -> None:
        """These and no others; a chip that has the focus keeps it where it stands."""
        if tuple(holdings) != self._shown:
            self._shown = tuple(holdings)
            self._fill()

    def on_resize(self) -> None:
        """Other rows, where another width makes other ones."""
        if _rows(self._shown, self._columns) != self._rows:
            self._fill()

    @property
    def _columns(self) -> int:
        return self.size.width or self.app.size.width - 2

    def _fill(self) -> None:
        chips = list(self.query(Chip))
        rows = _rows(self._shown, self._columns)
        if rows == self._rows and len(chips) == len(self._shown):
            for chip, holding in zip(chips, self._shown, strict=True):
                chip.show(holding, self._columns - 3)
            return
        place = next((at for at, chip in enumerate(chips) if chip.has_focus), None)
        self._rows = rows
        self.set_class(bool(self._shown), "-any")
        chips = [Chip(holding, self._columns - 3) for holding in self._shown]
        self.remove_children()
        self.mount_all([Horizontal(*(chips[at] for at in row)) for row in self._rows])
        if place is not None and chips:
            chips[min(place, len(chips) - 1)].focus()


def _rows(holdings: Sequence[Holding], columns: int) -> list[list[int]]:
    """Which chips stand in which row: as many as fit beside each other, each with its margins."""
    rows: list[list[int]] = []
    left = 0
    for at, holding in enumerate(holdings):
        needed = _label(holding, columns - 3).cell_length + 3
        if not rows or needed > left:
            rows.append([])
            left = columns
        rows[-1].append(at)
        left -= needed
    return rows


def _label(holding: Holding, columns: int) -> Content:
    """Name, what is known of it, cross; where there is no room for all, what is known last is left out first."""
    num_files = len(holding.attachments)
    facts = [holding.problem and "cannot be sent", f"{num_files} files" if num_files > 1 else ""]
    if holding.attachments:
        facts.append(terminal_text.size(holding.num_bytes))
    if holding.num_tokens is not None:
        facts.append(f"{holding.num_tokens:,} token{'s' * (holding.num_tokens != 1)}")
    facts = [safe_line(fact) for fact in (*facts, holding.note) if fact]
    name = cut(safe_line(holding.name), max(1, min(MAX_NAME, columns - len(_CROSS))))
    while facts and width(name) + 2 + width(" · ".join(facts)) + len(_CROSS) > columns:
        facts.pop()
    return Content.assemble(name, ("  " + " · ".join(facts) if facts else "", "dim"), _CROSS)
