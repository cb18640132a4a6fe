"""The dialog near the end of the context: nothing is ever cut in silence, so a person says what is to be done."""

from __future__ import annotations

from typing import Literal

from localllm_tui.screens.dialog import Dialog
from localllm_tui.turns.context import Room
from localllm_tui.widgets.choice_list import ChoiceList, Way
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Label, OptionList

Choice = Literal["send", "summarise", "oldest", "larger", "edit"]


class LimitScreen(Dialog[Choice]):
    """What to do about a message that is too long, or nearly so. `why_not`: what rules out a choice, in words."""

    DEFAULT_CSS = """
    LimitScreen > Vertical { padding: 1 1 0 1; }
    LimitScreen Label { padding: 0 1; margin: 0 0 1 0; }
    """

    def __init__(self, room: Room, why_not: dict[Choice, str]) -> None:
        super().__init__()
        self._room, self._why_not = room, why_not

    def compose(self) -> ComposeResult:
        """The figures and the choices."""
        room = self._room
        if room.is_over:
            says = f"This takes {room.num_prompt:,} tokens, and the context has {room.num_ctx:,}."
        else:
            left = room.num_ctx - room.num_prompt
            says = f"This takes {room.num_prompt:,} of {room.num_ctx:,} tokens: the answer can have {left:,}."
        with Vertical():
            yield Label(says, markup=False)
            yield ChoiceList(self._ways())

    def on_mount(self) -> None:
        """Choose by key at once."""
        self.query_one(ChoiceList).focus()

    def action_leave(self) -> None:
        """Back to the message."""
        self.dismiss("edit")

    def _ways(self) -> list[Way]:
        rows: list[tuple[Choice, str, str]] = [
            ("summarise", "Summarise", "the model shortens the older turns; they stay, as another branch"),
            ("oldest", "Drop the oldest turns", "for the model only, from now on; nothing is deleted"),
            ("larger", "Larger context", "load the model again with more room"),
            ("edit", "Edit", "back to the message"),
        ]
        if not self._room.is_over:
            rows.insert(0, ("send", "Send", "as it is; the answer may end at the limit"))
        return [Way(choice, head, words, self._why_not.get(choice)) for choice, head, words in rows]

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        match event.option.id:
            case "send" | "summarise" | "oldest" | "larger" | "edit" as choice:
                self.dismiss(choice)
