"""Two branches side by side, or one above the other where there is no room, with the words marked that differ."""

from __future__ import annotations

from typing import ClassVar

from localllm_tui.look.names import shown_model
from localllm_tui.widgets.branch_rounds import Comparison, Round, Side
from localllm_tui.widgets.word_diff import Piece
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import Resize
from textual.widgets import Static

from localllm.terminal_text import safe_line, safe_stream

NARROW_COLUMNS = 72
ROUNDS_AT_ONCE = 20
_MARK = "bold $accent"
_QUIET = "$text-muted"


class BranchDiff(VerticalScroll, can_focus=True):
    """A Comparison. `names` are what the two sides are called. `plain`: brackets mark, and nothing stands beside."""

    BINDING_GROUP_TITLE = "In a comparison"
    DEFAULT_CSS = """
    BranchDiff { height: 1fr; padding: 0 1 0 0; scrollbar-size-vertical: 1; }
    BranchDiff .common { color: $text-muted; margin: 0 0 1 0; height: auto; }
    BranchDiff .round { height: auto; margin: 0 0 1 0; }
    BranchDiff .side { width: 1fr; height: auto; }
    BranchDiff .side.-right { padding: 0 0 0 2; border-left: solid $panel; }
    BranchDiff .side.-left { padding: 0 2 0 0; }
    BranchDiff .who { height: auto; color: $text-muted; }
    BranchDiff .words { height: auto; }
    BranchDiff.-stacked .round { layout: vertical; }
    BranchDiff.-stacked .side { width: 100%; }
    BranchDiff.-stacked .side.-right { padding: 0; border-left: none; margin: 1 0 0 0; }
    BranchDiff.-stacked .side.-left { padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "more", "Show more", id="compare.more"),
        Binding("j", "scroll_down", "Down", id="compare.down", show=False),
        Binding("k", "scroll_up", "Up", id="compare.up", show=False),
    ]

    def __init__(self, comparison: Comparison, names: tuple[str, str], *, plain: bool = False) -> None:
        super().__init__()
        self._plain = plain
        self._comparison = comparison
        self._names = names
        self._num_shown = 0

    def compose(self) -> ComposeResult:
        """The common part in a line, the first rounds, and how many follow."""
        yield Static(_common(self._comparison), classes="common")
        yield Static(classes="common", id="rest", markup=False)

    def on_mount(self) -> None:
        """The first rounds."""
        self.action_more()

    def on_resize(self, event: Resize) -> None:
        """Beside each other where each side has room for a line worth reading."""
        self.set_class(self._plain or event.size.width < NARROW_COLUMNS, "-stacked")

    def action_more(self) -> None:
        """The next rounds."""
        rounds = self._comparison.rounds[self._num_shown : self._num_shown + ROUNDS_AT_ONCE]
        rest = self.query_one("#rest", Static)
        if rounds:
            self.mount_all([self._round(one) for one in rounds], before=rest)
        self._num_shown += len(rounds)
        left = len(self._comparison.rounds) - self._num_shown
        rest.display = left > 0
        rest.update(f"{left} more turns on each side: M shows them")

    def _round(self, one: Round) -> Horizontal:
        by = {"lines": "   marked by lines", "nothing": "   too long to be marked", "other": "   hardly alike"}.get(
            one.diff.by, ""
        )
        return Horizontal(
            self._side(one.left, one.diff.left, self._names[0], "-left", by),
            self._side(one.right, one.diff.right, self._names[1], "-right", by),
            classes="round",
        )

    def _side(self, side: Side | None, pieces: tuple[Piece, ...], name: str, place: str, by: str) -> Vertical:
        if side is None:
            head, words = Content.styled(f"{name}   ends before", _QUIET), Content("")
        else:
            parts = ((name, "bold $foreground"), (f"   {_who(side)}", ""), (_figures(side), _QUIET), (by, _QUIET))
            head = Content.assemble(*parts)
            words = Content.assemble(*(self._piece(*piece) for piece in pieces))
        return Vertical(Static(head, classes="who"), Static(words, classes="words"), classes=f"side {place}")

    def _piece(self, text: str, differs: bool) -> tuple[str, str]:
        text = safe_stream(text)
        return (f"[{text}]" if self._plain and differs else text), (_MARK if differs else "")


def _who(side: Side) -> str:
    first = side.nodes[0]
    if first.role == "user":
        return "You"
    models = dict.fromkeys(shown_model(node.model) for node in side.nodes if node.model)
    return ", ".join(models) or safe_line(first.role)


def _figures(side: Side) -> str:
    """What was measured of the answer; nothing where nothing was."""
    stats = [node.stats for node in side.nodes if node.stats is not None]
    num_tokens, decode_s = sum(one.num_output_tokens for one in stats), sum(one.decode_s for one in stats)
    first_token_s = stats[0].first_token_s if stats else None
    parts = []
    if num_tokens:
        parts.append(f"{num_tokens:,} tokens")
    if num_tokens and decode_s > 0:
        parts.append(f"{num_tokens / decode_s:.1f} tok/s")
    if first_token_s is not None:
        parts.append(f"first after {first_token_s:.1f} s")
    parts += [node.state for node in side.nodes[-1:] if node.state != "complete"]
    return "".join(f" · {part}" for part in parts)


def _common(comparison: Comparison) -> Content:
    number = len(comparison.common)
    if not number:
        return Content("Nothing in common: they differ from the first turn on")
    last = comparison.common[-1]
    words = safe_line(" ".join(last.content[:200].split()))
    return Content(f"{number} turn{'s' * (number != 1)} in common, up to:  {words}")
