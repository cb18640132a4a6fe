"""The tree of a conversation, a line a turn. It says what a person wants with a turn, and draws what is in sight."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import ClassVar

from localllm_tui.history.values import Node
from localllm_tui.look.names import shown_model
from localllm_tui.widgets.tree_rows import Row
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from localllm.terminal_text import age, cut, safe_line, width

_TEXT_CHARS = 400
_PLAIN = str.maketrans("│├─", "|+-")


class TreeView(ScrollView, can_focus=True):
    """Rows of `tree_rows`. Two of them may be marked, to be compared. `plain`: words for signs, letters for lines."""

    BINDING_GROUP_TITLE = "In the tree"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "tree-view--guide",
        "tree-view--muted",
        "tree-view--open",
        "tree-view--person",
        "tree-view--mark",
        "tree-view--cursor",
    }
    DEFAULT_CSS = """
    TreeView { height: 1fr; width: 1fr; padding: 0 1 0 0; scrollbar-size-vertical: 1; overflow-x: hidden; }
    TreeView > .tree-view--guide { color: $text-disabled; }
    TreeView > .tree-view--muted { color: $text-muted; }
    TreeView > .tree-view--open { color: $accent; }
    TreeView > .tree-view--person { text-style: bold; }
    TreeView > .tree-view--mark { color: $warning; text-style: bold; }
    TreeView > .tree-view--cursor { background: $panel; }
    TreeView:focus > .tree-view--cursor { background: $panel; text-style: bold; }
    TreeView:nocolor > .tree-view--cursor { text-style: reverse; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open this branch", id="tree.open"),
        Binding("space", "mark", "Mark, to compare", id="tree.mark"),
        Binding("c", "compare", "Compare", id="tree.compare"),
        Binding("b", "branch", "As a conversation of its own", id="tree.branch"),
        Binding("up,k", "move(-1)", "Up", id="tree.up", show=False),
        Binding("down,j", "move(1)", "Down", id="tree.down", show=False),
        Binding("left,h", "parent", "The turn above", id="tree.parent", show=False),
        Binding("right,l", "fork(1)", "The next fork", id="tree.fork", show=False),
        Binding("pageup", "page(-1)", "Page up", id="tree.pageup", show=False),
        Binding("pagedown", "page(1)", "Page down", id="tree.pagedown", show=False),
        Binding("home,g", "edge(-1)", "Top", id="tree.top", show=False),
        Binding("end,G", "edge(1)", "Bottom", id="tree.bottom", show=False),
    ]

    @dataclass
    class Moved(Message):
        """The cursor is on this turn now."""

        node: Node

    @dataclass
    class OpenAsked(Message):
        """Show the branch that goes through this turn."""

        node: Node

    @dataclass
    class BranchAsked(Message):
        """The way to this turn as a conversation of its own."""

        node: Node

    @dataclass
    class CompareAsked(Message):
        """Compare the branches of these turns; of one: with the open branch."""

        nodes: tuple[Node, ...]

    def __init__(self, *, plain: bool = False) -> None:
        super().__init__()
        self._plain = plain
        self.rows: tuple[Row, ...] = ()
        self.cursor = 0
        self.marked: tuple[int, ...] = ()
        self._who_columns = self._when_columns = 0
        self._now = datetime.datetime.now(datetime.UTC)

    def show(self, rows: tuple[Row, ...], cursor: int | None = None) -> None:
        """Show these; the cursor goes to the turn of that id, or to the last one of the open branch."""
        self.rows = rows
        self.marked = ()
        self._who_columns = min(16, max((width(_who(row.node)) for row in rows), default=0))
        self._now = datetime.datetime.now(datetime.UTC)
        self._when_columns = max((len(self._when(row.node)) for row in rows), default=0)
        self.virtual_size = Size(0, len(rows))
        wanted = [index for index, row in enumerate(rows) if (row.node.id == cursor if cursor else row.is_open)]
        self.cursor = wanted[-1] if wanted else 0
        self.refresh()
        self._go_to(self.cursor)

    @property
    def node(self) -> Node | None:
        """The turn under the cursor."""
        return self.rows[self.cursor].node if self.rows else None

    def render_line(self, y: int) -> Strip:
        """One turn: guides, a mark, who, the first words, how long ago."""
        index = y + self.scroll_offset.y
        columns = self.scrollable_content_region.width
        base = self.rich_style
        if index >= len(self.rows):
            return Strip.blank(columns, base)
        row = self.rows[index]
        line = base
        if index == self.cursor:
            line = base + self.get_component_rich_style("tree-view--cursor", partial=True)
        return Strip(self._segments(row, columns, line)).adjust_cell_length(columns, line)

    def _segments(self, row: Row, columns: int, line: Style) -> list[Segment]:
        def styled(name: str) -> Style:
            return line + self.get_component_rich_style(f"tree-view--{name}", partial=True)

        node = row.node
        is_marked = node.id in self.marked
        guide = cut(row.guide, max(2, columns // 3))
        signs = ("marked", "open", "-") if self._plain else ("◆", "●", "○")
        sign = signs[0 if is_marked else 1 if row.is_open else 2]
        if self._plain:
            guide = guide.translate(_PLAIN)
        sign_style = styled("mark") if is_marked else styled("open") if row.is_open else styled("muted")
        who_columns = self._who_columns if columns >= 48 else min(8, self._who_columns)
        who = cut(_who(node), who_columns)
        who += " " * (who_columns - width(who))
        left = columns - width(guide) - width(sign) - 1
        when = self._when(node).rjust(self._when_columns) if columns >= 48 else ""
        room = left - width(who) - 2 - (len(when) + 2 if when else 0)
        if room < 8:
            who, room = "", left
        words = cut(_words(node), max(1, room))
        words += " " * max(0, room - width(words))
        return [
            Segment(guide, styled("guide")),
            Segment(f"{sign} ", sign_style),
            Segment(f"{who}  " if who else "", styled("person") if node.role == "user" else styled("muted")),
            Segment(words, line if row.is_open or node.role == "user" else styled("muted")),
            Segment(f"  {when}" if when else "", styled("muted")),
        ]

    def _when(self, node: Node) -> str:
        then = datetime.datetime.fromtimestamp(node.created, datetime.UTC)
        return age(then.isoformat(), self._now)

    # --- the cursor ---------------------------------------------------------------------------------------------------

    def _go_to(self, index: int) -> None:
        if not self.rows:
            return
        before, self.cursor = self.cursor, max(0, min(len(self.rows) - 1, index))
        for changed in {before, self.cursor}:
            self._refresh_row(changed)
        self.scroll_to_region(Region(0, self.cursor, 1, 1), animate=False)
        self.post_message(self.Moved(self.rows[self.cursor].node))

    def _refresh_row(self, index: int) -> None:
        self.refresh(Region(0, index - self.scroll_offset.y, self.size.width, 1))

    def action_move(self, step: int) -> None:
        """A row up or down."""
        self._go_to(self.cursor + step)

    def action_page(self, step: int) -> None:
        """A screenful up or down."""
        self._go_to(self.cursor + step * max(1, self.size.height - 1))

    def action_edge(self, step: int) -> None:
        """To the top or the bottom."""
        self._go_to(0 if step < 0 else len(self.rows) - 1)

    def action_parent(self) -> None:
        """To the turn above, however far that is."""
        if self.rows and self.rows[self.cursor].parent >= 0:
            self._go_to(self.rows[self.cursor].parent)

    def action_fork(self, step: int) -> None:
        """To the next turn after which there is a choice."""
        index = self.cursor + step
        while 0 <= index < len(self.rows) and self.rows[index].num_children < 2:
            index += step
        if 0 <= index < len(self.rows):
            self._go_to(index)

    def on_click(self, event: Click) -> None:
        """A click chooses, a second one opens."""
        index = int(event.y + self.scroll_offset.y)
        if index < len(self.rows):
            self._go_to(index)
            if event.chain == 2:
                self.action_open()

    # --- what a person wants ------------------------------------------------------------------------------------------

    def action_open(self) -> None:
        """Say that."""
        if (node := self.node) is not None:
            self.post_message(self.OpenAsked(node))

    def action_branch(self) -> None:
        """Say that."""
        if (node := self.node) is not None:
            self.post_message(self.BranchAsked(node))

    def action_mark(self) -> None:
        """Mark the turn, or mark it no longer; of three the first one is let go."""
        if (node := self.node) is None:
            return
        if node.id in self.marked:
            self.marked = tuple(id_ for id_ in self.marked if id_ != node.id)
        else:
            self.marked = (*self.marked, node.id)[-2:]
        self.refresh()

    def action_compare(self) -> None:
        """Compare what is marked; with one mark or none the turn under the cursor counts, too."""
        if (node := self.node) is None:
            return
        by_id = {row.node.id: row.node for row in self.rows if row.node.id in self.marked}
        nodes = [by_id[id_] for id_ in self.marked if id_ in by_id]
        if len(nodes) < 2 and node not in nodes:
            nodes.append(node)
        self.post_message(self.CompareAsked(tuple(nodes)))


def _who(node: Node) -> str:
    match node.role:
        case "user":
            return "You"
        case "assistant":
            return shown_model(node.model or "answer")
        case "tool":
            return safe_line(node.name or "tool")
    return "System"


def _words(node: Node) -> str:
    text = " ".join(node.content[:_TEXT_CHARS].split())
    if not text and node.tool_calls:
        text = "calls " + ", ".join(call.name for call in node.tool_calls)
    if not text and node.state == "failed":
        text = f"failed: {node.error or ''}"
    state = {"stopped": "(stopped) ", "streaming": "(being written) "}.get(node.state, "")
    return state + safe_line((text or "(nothing)")[:_TEXT_CHARS])
