"""Two branches of a conversation beside each other. Which one is kept open is the screen's result."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from localllm_tui.history.values import Node
from localllm_tui.look.dressed import key_of
from localllm_tui.widgets.branch_diff import BranchDiff
from localllm_tui.widgets.branch_rounds import compare
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Button, Static

NAMES = ("Left", "Right")
KEEP = ("compare.left", "compare.right")


class CompareScreen(Screen[int | None]):
    """Two paths of nodes; the result is the last node of the one that is to be open, None: as it was."""

    BINDING_GROUP_TITLE = "In a comparison"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "keep(0)", "Open the left branch", id="compare.left"),
        Binding("2", "keep(1)", "Open the right branch", id="compare.right"),
        Binding("escape,q", "leave", "Back", id="compare.leave"),
    ]
    DEFAULT_CSS = """
    CompareScreen #compare { padding: 1 2 0 2; }
    CompareScreen .head { height: 2; text-style: bold; }
    CompareScreen #keep { height: 1; margin: 1 0 0 0; }
    CompareScreen #keep Button { margin: 0 3 0 0; min-width: 4; }
    CompareScreen #wait { height: 1fr; color: $text-muted; }
    CompareScreen.-narrow #compare { padding: 0; }
    CompareScreen.-narrow .head { height: 1; }
    CompareScreen.-narrow #keep { height: 3; layout: vertical; margin: 0; }
    """

    def __init__(self, left: tuple[Node, ...], right: tuple[Node, ...], *, open_leaf: int | None = None) -> None:
        super().__init__()
        self._paths = (left, right)
        self._open_leaf = open_leaf

    def compose(self) -> ComposeResult:
        """Title, the branches, which to keep."""
        with Vertical(id="compare"):
            yield Static("Two branches", classes="head", markup=False)
            yield Static("comparing …", id="wait", markup=False)
            with Horizontal(id="keep"):
                for index, name in enumerate(NAMES):
                    is_open = bool(self._paths[index]) and self._paths[index][-1].id == self._open_leaf
                    words = f"{key_of(self.app, KEEP[index])}  Keep {name.lower()}{' (open now)' if is_open else ''}"
                    yield Button(words, id=f"keep-{index}", compact=True, variant="primary" if is_open else "default")
                yield Button(f"{key_of(self.app, 'compare.leave')}  Back", id="back", compact=True)

    def on_mount(self) -> None:
        """Comparing long answers takes a moment."""
        self._compare()

    @work(exclusive=True)
    async def _compare(self) -> None:
        comparison = await asyncio.to_thread(compare, *self._paths)
        shown = BranchDiff(comparison, NAMES, plain=bool(getattr(self.app, "is_plain", False)))
        await self.query_one("#compare").mount(shown, before=self.query_one("#keep"))
        self.query_one("#wait").display = False
        shown.focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "back":
            self.action_leave()
            return
        self.action_keep(int((event.button.id or "keep-0")[-1]))

    def action_keep(self, index: int) -> None:
        """This one."""
        path = self._paths[index]
        self.dismiss(path[-1].id if path else None)

    def action_leave(self) -> None:
        """As it was."""
        self.dismiss(None)
