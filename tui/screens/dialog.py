"""Dialog: the frame around a question that stands over what a person was doing, and the key that leaves it."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, ScreenResultType


class Dialog(ModalScreen[ScreenResultType]):
    """A frame: the one Vertical of the screen. A dialog says only its size, where that is not the usual one.

    Leaving gives None; where that is no answer, a dialog has an `action_leave` of its own.
    """

    BINDING_GROUP_TITLE = "In a dialog"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave", id="dialog.leave")]
    SCOPED_CSS = False  # `-plain` is a class of the app, which is above what a scope reaches
    DEFAULT_CSS = """
    Dialog { align: center middle; }
    Dialog > Vertical, Dialog > VerticalScroll {
        width: 72; max-width: 94%; height: auto; max-height: 90%; padding: 1 2; background: $surface;
        border: round $border-blurred; border-title-color: $text;
    }
    Dialog.-narrow > Vertical, Dialog.-narrow > VerticalScroll { width: 100%; max-width: 100%; padding: 0 1; }
    .-plain Dialog > Vertical, .-plain Dialog > VerticalScroll {
        width: 100%; max-width: 100%; height: 100%; max-height: 100%; border: none;
    }
    Dialog Label { width: 100%; }
    Dialog .head { text-style: bold; }
    Dialog .hint { color: $text-muted; }
    """

    def action_leave(self) -> None:
        """No answer."""
        self.dismiss(None)
