"""The tree of a conversation: every branch, and where to go. What is chosen is the screen's result."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import ClassVar

from localllm_tui.history.history import History
from localllm_tui.history.values import Node
from localllm_tui.widgets.keys_foot import KeysFoot
from localllm_tui.widgets.tree_rows import num_branches, rows_of
from localllm_tui.widgets.tree_view import TreeView
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from localllm.errors import LocalLLMError
from localllm.terminal_text import safe_line, safe_stream

_PREVIEW_CHARS = 8_000


@dataclass(frozen=True)
class Chosen:
    """Where the person wants to be: the branch that ends in `leaf`, of this conversation or a new one."""

    conversation: int
    leaf: int


class TreeScreen(Screen[Chosen | None]):
    """All turns of one conversation as a tree, and the one under the cursor beside it."""

    BINDING_GROUP_TITLE = "In the tree"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "leave", "Back", id="tree.leave")]
    DEFAULT_CSS = """
    TreeScreen { padding: 1 2 0 2; }
    TreeScreen .head { height: 2; }
    TreeScreen Horizontal { height: 1fr; }
    TreeScreen #preview { width: 42%; padding: 0 0 0 2; border-left: solid $panel; }
    TreeScreen #preview Static { height: auto; }
    TreeScreen.-narrow { padding: 0; }
    TreeScreen.-narrow #preview { display: none; }
    TreeScreen.-narrow .head { height: 1; }
    """

    def __init__(self, history: History, conversation: int, *, cursor: int | None = None) -> None:
        super().__init__()
        self._history = history
        self._conversation = conversation
        self._cursor = cursor
        self._leaf: int | None = None

    def compose(self) -> ComposeResult:
        """Title, tree and turn, keys."""
        yield Static(classes="head", markup=False)
        with Horizontal():
            yield TreeView(plain=bool(getattr(self.app, "is_plain", False)))
            with VerticalScroll(id="preview", can_focus=False):
                yield Static(id="turn", markup=False)
        yield KeysFoot(TreeView, type(self))

    def on_mount(self) -> None:
        """The keys are the tree's."""
        self.query_one(TreeView).focus()
        self._load()

    @work(exclusive=True)
    async def _load(self) -> None:
        try:
            conversation = await asyncio.to_thread(self._history.conversation, self._conversation)
            nodes = await asyncio.to_thread(self._history.tree, self._conversation)
            rows = await asyncio.to_thread(rows_of, nodes, conversation.leaf)
        except LocalLLMError as exc:
            self._say(exc)
            return
        self._leaf = conversation.leaf
        branches = num_branches(rows)
        figures = f"{len(rows):,} turn{'s' * (len(rows) != 1)}, {branches:,} branch{'es' * (branches != 1)}"
        title = safe_line(conversation.title or "Untitled")
        self.query_one(".head", Static).update(Content.assemble((title, "bold"), (f"   {figures}", "$text-muted")))
        self.query_one(TreeView).show(rows, self._cursor)

    @on(TreeView.Moved)
    def _moved(self, event: TreeView.Moved) -> None:
        node = event.node
        text = node.content or node.error or "\n".join(f"{call.name} {call.arguments}" for call in node.tool_calls)
        more = f"\n… {len(text) - _PREVIEW_CHARS:,} more characters" if len(text) > _PREVIEW_CHARS else ""
        self.query_one("#turn", Static).update(Content(safe_stream(text[:_PREVIEW_CHARS]) + more))
        self.query_one("#preview").scroll_home(animate=False)

    @on(TreeView.OpenAsked)
    def _open_asked(self, event: TreeView.OpenAsked) -> None:
        self._choose(event.node)

    @on(TreeView.BranchAsked)
    def _branch_asked(self, event: TreeView.BranchAsked) -> None:
        try:
            made = self._history.branch(event.node.id)
        except LocalLLMError as exc:
            self._say(exc)
            return
        self.dismiss(Chosen(made.id, made.leaf or 0))

    @on(TreeView.CompareAsked)
    def _compare_asked(self, event: TreeView.CompareAsked) -> None:
        self._compare(event.nodes)

    @work
    async def _compare(self, nodes: tuple[Node, ...]) -> None:
        from localllm_tui.screens.compare import CompareScreen

        try:
            ends = [self._history.newest_leaf(node.id) for node in nodes]
            if len(ends) == 1 and self._leaf is not None:
                ends.insert(0, self._leaf)
            if len(set(ends)) < 2:
                self.notify("Both are on one branch: mark a turn of another one (Space)", markup=False)
                return
            left, right = (self._history.path(end) for end in ends)
        except LocalLLMError as exc:
            self._say(exc)
            return
        kept = await self.app.push_screen_wait(CompareScreen(left, right, open_leaf=self._leaf))
        if kept is not None:
            self.dismiss(Chosen(self._conversation, kept))

    def _choose(self, node: Node) -> None:
        try:
            self.dismiss(Chosen(self._conversation, self._history.newest_leaf(node.id)))
        except LocalLLMError as exc:
            self._say(exc)

    def _say(self, error: LocalLLMError) -> None:
        words = f"{error.message}\n{error.hint}" if error.hint else error.message
        self.notify(safe_stream(words), severity="error", markup=False)

    def action_leave(self) -> None:
        """Back to where one was."""
        self.dismiss(None)
