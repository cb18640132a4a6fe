"""One turn as it is seen: who, thinking, text, tool calls, figures. What a person wants with it is said in messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import msgspec
from localllm_tui.history.values import Node
from localllm_tui.widgets.markdown_view import MarkdownView
from localllm_tui.widgets.tool_card import CallState, ToolCard
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Static

from localllm.api import ToolCall
from localllm.terminal_text import safe_line, safe_stream


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block of a text: what follows its fence, and what is between. `language` "": not said."""

    language: str
    code: str


class MessageView(Vertical, can_focus=True):
    """One node. While its answer comes, `append_text` and its like grow it; `show` has the last word."""

    DEFAULT_CSS = "MessageView { height: auto; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "edit", "Edit", id="turn.edit"),
        Binding("r", "regenerate", "Regenerate", id="turn.regenerate"),
        Binding("b", "branch", "Branch here", id="turn.branch"),
        Binding("c", "copy", "Copy", id="turn.copy"),
        Binding("left", "sibling(-1)", "Previous version", id="turn.previous"),
        Binding("right", "sibling(1)", "Next version", id="turn.next"),
    ]

    @dataclass
    class OfNode(Message):
        """A person wants something with this node."""

        node: Node

    class EditAsked(OfNode):
        """Write it anew: as the start of another branch."""

    class RegenerateAsked(OfNode):
        """Answer again."""

    class ContinueAsked(OfNode):
        """Go on with an answer that was stopped."""

    class BranchAsked(OfNode):
        """A conversation of its own from here."""

    class CopyAsked(OfNode):
        """The text into the clipboard."""

    @dataclass
    class SiblingAsked(Message):
        """The version before (-1) or after (1) this one."""

        node: Node
        step: int

    @dataclass
    class CopyCodeAsked(Message):
        """Code block number `index`, from 0, into the clipboard."""

        node: Node
        index: int

    @dataclass
    class SaveCodeAsked(Message):
        """Code block number `index`, from 0, into a file."""

        node: Node
        index: int

    def __init__(self, node: Node, *, place: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        self.node = node
        self.place = place
        self._body = MarkdownView(node.content)
        self._thinking = Static(safe_stream(node.reasoning), markup=False)

    def compose(self) -> ComposeResult:
        """From the top."""
        yield Static(safe_line(self.node.model or self.node.role), markup=False)
        yield self._thinking
        yield self._body

    def append_text(self, text: str) -> None:
        """More of the answer."""
        self.node = msgspec.structs.replace(self.node, content=self.node.content + text)
        self._body.append(text)

    def append_reasoning(self, text: str) -> None:
        """More of the thinking."""
        self.node = msgspec.structs.replace(self.node, reasoning=self.node.reasoning + text)
        self._thinking.update(safe_stream(self.node.reasoning))

    def show_call(self, call: ToolCall, state: CallState, result: str | None = None) -> None:
        """How a tool call stands."""
        for card in self.query(ToolCard):
            if card.call.id == call.id:
                card.show(call, state, result)
                return
        self.mount(ToolCard(call, state, result))

    def show(self, node: Node, place: tuple[int, int] | None = None) -> None:
        """The node as it is now."""
        self.node, self.place = node, place or self.place
        self._body.show(node.content)
        self._thinking.update(safe_stream(node.reasoning))

    def code_blocks(self) -> list[CodeBlock]:
        """The fenced blocks of the text, in order."""
        return []

    def plain_text(self) -> str:
        """What a copy of the turn is: its Markdown."""
        return self.node.content

    def action_edit(self) -> None:
        """Say that."""
        self.post_message(self.EditAsked(self.node))

    def action_regenerate(self) -> None:
        """Say that."""
        self.post_message(self.RegenerateAsked(self.node))

    def action_branch(self) -> None:
        """Say that."""
        self.post_message(self.BranchAsked(self.node))

    def action_copy(self) -> None:
        """Say that."""
        self.post_message(self.CopyAsked(self.node))

    def action_sibling(self, step: int) -> None:
        """Say that."""
        self.post_message(self.SiblingAsked(self.node, step))
