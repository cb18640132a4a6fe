"""One turn as it is seen: who, thinking, text, tool calls, figures. What a person wants with it is said in messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import msgspec
from localllm_tui.history.values import Attachment, Node
from localllm_tui.markdown.values import CodeBlock
from localllm_tui.widgets.markdown_view import MarkdownView
from localllm_tui.widgets.thinking import Thinking
from localllm_tui.widgets.tool_card import CallState, ToolCard
from localllm_tui.widgets.turn_foot import TurnFoot
from localllm_tui.widgets.turn_head import TurnHead
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widgets import Static

from localllm.api import ToolCall
from localllm.terminal_text import safe_line

__all__ = ["CodeBlock", "MessageView"]

_OF_ANSWERS = (("regenerate", "regenerate"), ("edit", "edit"), ("branch", "branch"), ("copy", "copy"))
_OF_OTHERS = (("edit", "edit"), ("branch", "branch"), ("copy", "copy"))


class MessageView(Vertical, can_focus=True):
    """One node. While its answer comes, `append_text` and its like grow it; `show` has the last word.

    It has the focus when it is chosen by keyboard. A click does not give it: who types goes on typing.
    """

    FOCUS_ON_CLICK = False
    BINDING_GROUP_TITLE = "A turn"
    DEFAULT_CSS = """
    MessageView { height: auto; margin: 0 0 1 0; padding: 0 2 0 1; border-left: blank; }
    MessageView:focus-within { border-left: outer $primary; }
    MessageView.-continued { margin: -1 0 1 0; }
    MessageView.-continued > TurnHead { display: none; }
    MessageView > .chips { height: auto; color: $foreground-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "edit", "Edit", id="turn.edit"),
        Binding("r", "regenerate", "Regenerate", id="turn.regenerate"),
        Binding("g", "continue", "Go on", id="turn.continue"),
        Binding("b", "branch", "Branch here", id="turn.branch"),
        Binding("c,y", "copy", "Copy", id="turn.copy"),
        Binding("left", "sibling(-1)", "Version before", id="turn.previous"),
        Binding("right", "sibling(1)", "Version after", id="turn.next"),
        Binding("t,enter", "think", "Open or fold the thinking", id="turn.thinking"),
        Binding("s", "save_code", "Save the code", id="turn.save_code"),
        *(
            Binding(
                f"{number}",
                f"copy_code({number - 1})",
                f"Copy code {number}",
                id=f"turn.copy_code_{number}",
                show=False,
            )
            for number in range(1, 10)
        ),
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

    @dataclass
    class LinkAsked(Message):
        """To an address (http or https) that stands in the text: ask before it is opened."""

        node: Node
        address: str

    def __init__(self, node: Node, *, place: tuple[int, int] = (1, 1)) -> None:
        super().__init__(classes=f"-{node.role}")
        self._node = node
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self.place = place
        self._cards: dict[str, ToolCard] = {}
        self._is_composed = False
        is_coming = node.state == "streaming"
        self._head = TurnHead(node, place, _actions(node))
        self._thinking = _thinking(node)
        self._body = MarkdownView(node.content, is_growing=is_coming, is_plain=node.role == "user")
        self._foot = TurnFoot(node)
        self._take_calls(node)

    @property
    def node(self) -> Node:
        """The node as far as it has come."""
        if self._text or self._reasoning:
            content = self._node.content + "".join(self._text)
            reasoning = self._node.reasoning + "".join(self._reasoning)
            self._node = msgspec.structs.replace(self._node, content=content, reasoning=reasoning)
            self._text.clear()
            self._reasoning.clear()
        return self._node

    def compose(self) -> ComposeResult:
        """From the top."""
        self._is_composed = True
        yield self._head
        if self._node.attachments:
            yield Static(_chips(self._node.attachments), classes="chips", markup=False)
        if self._thinking is not None:
            yield self._thinking
        yield self._body
        yield from self._cards.values()
        yield self._foot

    def render_lines(self, crop: Region) -> list[Strip]:
        """Every line of what lies below the parts is the same; a turn may have thousands, and grow."""
        line = super().render_lines(Region(crop.x, 0, crop.width, 1))
        return line * crop.height

    # --- what comes ---------------------------------------------------------------------------------------------------

    def append_text(self, text: str) -> None:
        """More of the answer."""
        if not text:
            return
        if self._thinking is not None and not self._text:
            self._thinking.finish(self.node.reasoning, None)
        if not self._text and not self._node.content:
            self._foot.add_class("-empty")
        self._text.append(text)
        self._body.append(text)

    def append_reasoning(self, text: str) -> None:
        """More of the thinking."""
        self._reasoning.append(text)
        if self._thinking is None:
            self._foot.add_class("-empty")
            self._thinking = Thinking(text, None, is_coming=True)
            self._place_thinking()
        else:
            self._thinking.append(text)

    def show_call(self, call: ToolCall, state: CallState | None, result: str | None = None) -> None:
        """How a tool call stands."""
        card = self._cards.get(call.id)
        if card is not None:
            card.show(call, state, result)
            return
        self._foot.add_class("-empty")
        card = self._cards[call.id] = ToolCard(call, state, result)
        if self._is_composed:
            self.mount(card, before=self._foot)

    def show(self, node: Node, place: tuple[int, int] | None = None) -> None:
        """The node as it is now."""
        self._text.clear()
        self._reasoning.clear()
        self._node, self.place = node, place or self.place
        self._head.show(node, self.place, _actions(node))
        seconds = node.stats.reasoning_s if node.stats is not None else None
        if self._thinking is not None and node.reasoning:
            self._thinking.finish(node.reasoning, seconds)
        elif self._thinking is not None:
            self._thinking.remove()
            self._thinking = None
        elif node.reasoning:
            self._thinking = _thinking(node)
            self._place_thinking()
        self._body.show(node.content, is_growing=node.state == "streaming")
        for call in node.tool_calls:
            if call.id not in self._cards:
                self.show_call(call, None)
        self._foot.show(node)

    def _place_thinking(self) -> None:
        if self._is_composed and self._thinking is not None:
            self.mount(self._thinking, before=self._body)

    def _take_calls(self, node: Node) -> None:
        for call in node.tool_calls:
            self._cards[call.id] = ToolCard(call, None)

    # --- what it holds ------------------------------------------------------------------------------------------------

    def code_blocks(self) -> list[CodeBlock]:
        """The fenced blocks of the text, in order."""
        return self._body.code_blocks()

    def plain_text(self) -> str:
        """What a copy of the turn is: its Markdown."""
        return self.node.content

    def call(self, call_id: str) -> ToolCall | None:
        """A call that this turn made."""
        card = self._cards.get(call_id)
        return card.call if card is not None else None

    # --- what a person wants ------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what can be done with this turn."""
        match action:
            case "regenerate":
                return self._node.role == "assistant"
            case "continue":
                return self._node.role == "assistant" and self._node.state == "stopped"
            case "sibling":
                return self.place[1] > 1
            case "think":
                return self._thinking is not None
            case "copy_code":
                return isinstance(parameters[0], int) and parameters[0] < len(self.code_blocks())
            case "save_code":
                return bool(self.code_blocks())
        return True

    def action_edit(self) -> None:
        """Say that."""
        self.post_message(self.EditAsked(self.node))

    def action_regenerate(self) -> None:
        """Say that."""
        self.post_message(self.RegenerateAsked(self.node))

    def action_continue(self) -> None:
        """Say that."""
        self.post_message(self.ContinueAsked(self.node))

    def action_branch(self) -> None:
        """Say that."""
        self.post_message(self.BranchAsked(self.node))

    def action_copy(self) -> None:
        """Say that."""
        self.post_message(self.CopyAsked(self.node))

    def action_sibling(self, step: int) -> None:
        """Say that."""
        self.post_message(self.SiblingAsked(self.node, step))

    def action_copy_code(self, index: int) -> None:
        """Say that."""
        self.post_message(self.CopyCodeAsked(self.node, index))

    def action_save_code(self, index: int = 0) -> None:
        """Say that."""
        self.post_message(self.SaveCodeAsked(self.node, index))

    def action_think(self) -> None:
        """Open the thinking, or fold it."""
        if self._thinking is not None:
            self._thinking.toggle()

    def on_click(self, event: events.Click) -> None:
        """Words of the lines above and below the text."""
        action = event.style.meta.get("turn")
        if not isinstance(action, str):
            return
        name, _, step = action.partition(":")
        if name == "sibling":
            self.action_sibling(int(step))
        elif name in ("edit", "regenerate", "continue", "branch", "copy"):
            getattr(self, f"action_{name}")()
        else:
            return
        event.stop()

    def on_markdown_view_code_asked(self, event: MarkdownView.CodeAsked) -> None:
        """Words of a code block."""
        event.stop()
        if event.what == "copy":
            self.action_copy_code(event.index)
        else:
            self.action_save_code(event.index)

    def on_markdown_view_link_asked(self, event: MarkdownView.LinkAsked) -> None:
        """An address in the text, or in the thinking."""
        event.stop()
        self.post_message(self.LinkAsked(self.node, event.address))

    def on_enter(self) -> None:
        """Under the mouse, it shows what can be done with it."""
        self._head.light(True)

    def on_leave(self) -> None:
        """Not any more."""
        self._head.light(self.is_mouse_over or self.has_focus_within)

    def on_descendant_focus(self) -> None:
        """Chosen by keyboard, in part."""
        self._head.light(True)

    def on_focus(self) -> None:
        """Chosen by keyboard; a call that asks is what one came for."""
        self._head.light(True)
        asking = next((card for card in self._cards.values() if card.state == "asking"), None)
        if asking is not None:
            asking.focus()

    def on_blur(self) -> None:
        """Not any more."""
        self._head.light(self.is_mouse_over)


def _actions(node: Node) -> tuple[tuple[str, str], ...]:
    if node.state == "streaming":
        return (("copy", "copy"),)
    return _OF_ANSWERS if node.role == "assistant" else _OF_OTHERS


def _thinking(node: Node) -> Thinking | None:
    if not node.reasoning:
        return None
    seconds = node.stats.reasoning_s if node.stats is not None else None
    return Thinking(node.reasoning, seconds, is_coming=node.state == "streaming" and not node.content)


def _chips(attachments: tuple[Attachment, ...]) -> Content:
    """What goes with a turn, each with its size where that was counted."""
    parts: list[str | tuple[str, str]] = []
    for attachment in attachments:
        parts += ["  "] if parts else []
        size = f"  {attachment.num_tokens:,} tokens" if attachment.num_tokens is not None else ""
        parts.append((f" {safe_line(attachment.name)}{size} ", "on $surface"))
    return Content.assemble(*parts)
