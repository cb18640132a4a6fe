"""The open conversation, turn under turn. Few turns are widgets at a time; what a person reads does not move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from localllm_tui.history.values import Node
from localllm_tui.widgets.message_view import MessageView
from localllm_tui.widgets.thinking import Thinking
from localllm_tui.widgets.tool_card import CallState, ToolCard
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.message import Message
from textual.scrollbar import ScrollBar
from textual.widget import Widget

if TYPE_CHECKING:
    from textual.layout import DockArrangeResult

# Turns that are widgets at first, that come with a look further, and at most.
_FIRST = 12
_MORE = 12
_MOST = 60


class Transcript(VerticalScroll, can_focus=False):
    """The turns of one branch, oldest first. Nodes of role "tool" are shown in the card of the call they answer.

    It follows what comes while its end is in sight; whoever scrolled up stays with what they read, whatever grows,
    comes or goes around it.
    """

    BINDING_GROUP_TITLE = "Turns"
    BLANK = True
    DEFAULT_CSS = "Transcript { padding: 1 0 0 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "select(-1)", "Turn before", id="transcript.previous"),
        Binding("down,j", "select(1)", "Turn after", id="transcript.next"),
        Binding("home", "first", "First turn", id="transcript.first"),
        Binding("end", "last", "Last turn", id="transcript.last"),
        Binding("pageup", "page_up", "Page up", id="transcript.page_up", show=False),
        Binding("pagedown", "page_down", "Page down", id="transcript.page_down", show=False),
        Binding("escape,i", "leave", "Back to the prompt", id="transcript.leave"),
    ]

    @dataclass
    class Left(Message):
        """The person is done with the turns: the prompt is where they want to be."""

    def __init__(self) -> None:
        super().__init__()
        self._path: list[Node] = []
        self._places: dict[int, tuple[int, int]] = {}
        self._results: dict[str, Node] = {}
        self._views: dict[int, MessageView] = {}
        # Turns from `_start` to before `_end` are widgets.
        self._start = self._end = 0
        self._follows = True
        self._pin: tuple[Widget, int] | None = None
        self._is_extending = False

    # --- what is shown ------------------------------------------------------------------------------------------------

    def show(self, path: tuple[Node, ...], places: Mapping[int, tuple[int, int]] | None = None) -> None:
        """Show these turns, and the end of the last. `places`: which sibling of how many, by node id."""
        self._places = dict(places or {})
        self._results = {node.tool_call_id: node for node in path if node.role == "tool" and node.tool_call_id}
        new = [node for node in path if node.role != "tool"]
        same = _num_same(self._path, new)
        if same > self._start and len(new) - same <= _MORE:
            self._exchange_end(same, new)
        else:
            self._keep_all()
            self._path = new
            self._window(max(0, len(new) - _FIRST), len(new))
        self.follow()

    def _exchange_end(self, same: int, new: list[Node]) -> None:
        """Another branch: turns that both have stay as they are seen."""
        for index in range(max(same, self._start), self._end):
            self._unmount(index)
        self._path = new
        self._end = min(self._end, same)
        for node in new[self._start : self._end]:
            self._views[node.id].show(node, self._places.get(node.id))
        if self._end == same:
            self.mount_all([self._make(node) for node in new[same:]])
            self._end = len(new)

    def append(self, node: Node, *, place: tuple[int, int] = (1, 1)) -> MessageView:
        """One more turn at the end. Of a "tool" node: the view of the turn that made the call."""
        if node.role == "tool":
            return self._answer_call(node)
        self._places[node.id] = place
        self._path.append(node)
        if self._end < len(self._path) - 1:
            self._window(max(0, len(self._path) - _FIRST), len(self._path))
        else:
            self._end = len(self._path)
            self.mount(self._make(node))
        if node.role == "user":
            self.follow()
        return self._views[node.id]

    def view(self, node_id: int) -> MessageView | None:
        """The view of a node, if there is one."""
        return self._views.get(node_id)

    def follow(self) -> None:
        """To the end, and on with it."""
        if self._end < len(self._path):
            self._window(max(0, len(self._path) - _FIRST), len(self._path))
        self._follows, self._pin = True, None
        self.refresh(layout=True)

    def go_to(self, node_id: int) -> bool:
        """Bring a turn to the top, and choose it. False: it is not of this branch."""
        index = next((index for index, node in enumerate(self._path) if node.id == node_id), None)
        if index is None:
            return False
        if not self._start <= index < self._end:
            self._window(max(0, index - _MORE), min(len(self._path), index + _MORE))
        view = self._views[node_id]
        self._follows, self._pin = False, (view, 0)
        self.refresh(layout=True)
        view.focus(scroll_visible=False)
        return True

    # --- choosing -----------------------------------------------------------------------------------------------------

    @property
    def selected(self) -> MessageView | None:
        """The turn that keys act on."""
        return next((view for view in self._shown() if view.has_focus_within), None)

    def action_select(self, step: int) -> None:
        """The turn before or after; from the prompt: the last one."""
        if not self._path:
            return
        chosen = self.selected
        if chosen is None:
            self.action_last()
            return
        index = self._index(chosen) + step
        if index >= len(self._path):
            self.action_leave()
        elif index >= 0:
            self._choose(index)

    def action_first(self) -> None:
        """The first turn."""
        if self._path:
            self.go_to(self._path[0].id)

    def action_last(self) -> None:
        """The last turn, and its end."""
        self.follow()
        if self._path:
            self._views[self._path[-1].id].focus(scroll_visible=False)

    def action_leave(self) -> None:
        """Back to the prompt."""
        self.post_message(self.Left())

    def _choose(self, index: int) -> None:
        if index < self._start:
            self._extend_up()
        elif index >= self._end:
            self._extend_down()
        view = self._views[self._path[index].id]
        view.focus(scroll_visible=False)
        self.call_after_refresh(self._reveal, view)

    def _reveal(self, view: MessageView) -> None:
        """Its beginning in sight; a turn that is longer than the screen is read from there."""
        top, height = view.virtual_region.y, view.virtual_region.height
        if top < self.scroll_y or height >= self.size.height:
            self.scroll_to(y=top, animate=False)
        elif top + height > self.scroll_y + self.size.height:
            self.scroll_to(y=top + height - self.size.height, animate=False)

    # --- which turns are widgets --------------------------------------------------------------------------------------

    def _shown(self) -> list[MessageView]:
        return [self._views[node.id] for node in self._path[self._start : self._end]]

    def _index(self, view: MessageView) -> int:
        return next(index for index, node in enumerate(self._path) if node.id == view.node.id)

    def _make(self, node: Node) -> MessageView:
        if (old := self._views.get(node.id)) is not None:
            node = old.node
        view = self._views[node.id] = MessageView(node, place=self._places.get(node.id, (1, 1)))
        for call in node.tool_calls:
            if (result := self._results.get(call.id)) is not None:
                view.show_call(call, *_outcome(result))
        index = next(index for index, other in enumerate(self._path) if other.id == node.id)
        before = self._path[index - 1] if index else None
        is_continued = before is not None and before.role == node.role == "assistant" and before.model == node.model
        view.set_class(is_continued and self._places.get(node.id, (1, 1))[1] == 1, "-continued")
        return view

    def _window(self, start: int, end: int) -> None:
        """Make widgets of these turns, and of no others."""
        self._keep_all()
        self.remove_children(MessageView)
        self._views = {id_: view for id_, view in self._views.items() if view.node.state == "streaming"}
        self._start, self._end = start, end
        self.mount_all([self._make(node) for node in self._path[start:end]])

    def _extend_up(self) -> None:
        """Some earlier turns; later ones go where there are too many."""
        start = max(0, self._start - _MORE)
        views = [self._make(node) for node in self._path[start : self._start]]
        if not views:
            return
        first = self._views[self._path[self._start].id]
        self._start = start
        self.mount_all(views, before=first)
        while self._end - self._start > _MOST:
            self._end -= 1
            self._unmount(self._end)

    def _extend_down(self) -> None:
        """Some later turns; earlier ones go."""
        end = min(len(self._path), self._end + _MORE)
        views = [self._make(node) for node in self._path[self._end : end]]
        if not views:
            return
        self._end = end
        self.mount_all(views)
        while self._end - self._start > _MOST:
            self._unmount(self._start)
            self._start += 1

    def _unmount(self, index: int) -> None:
        view = self._views[self._path[index].id]
        self._keep(index, view)
        view.remove()

    def _keep_all(self) -> None:
        for index, node in enumerate(self._path):
            if (view := self._views.get(node.id)) is not None:
                self._keep(index, view)

    def _keep(self, index: int, view: MessageView) -> None:
        """What a view knows of its node outlives it."""
        self._path[index] = view.node
        if view.node.state != "streaming":
            self._views.pop(view.node.id, None)

    def _answer_call(self, node: Node) -> MessageView:
        if node.tool_call_id:
            self._results[node.tool_call_id] = node
        for view in reversed(list(self._views.values())):
            call = view.call(node.tool_call_id or "")
            if call is not None:
                view.show_call(call, *_outcome(node))
                return view
        return self._views[self._path[-1].id]

    # --- where it stands ----------------------------------------------------------------------------------------------

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """A person scrolled: remember what they look at, and have more of it ready."""
        super().watch_scroll_y(old_value, new_value)
        self._follows = new_value >= self.max_scroll_y and self._end == len(self._path)
        self._pin = None if self._follows else self._top(new_value)
        if not self._is_extending and (self._near_start() or self._near_end()):
            self._is_extending = True
            self.call_later(self._extend)

    @on(ToolCard.Toggled)
    @on(Thinking.Toggled)
    def _hold_still(self) -> None:
        """What a person opens they want to read from its start."""
        self._follows, self._pin = False, self._top(self.scroll_y)

    def _near_start(self) -> bool:
        return self._start > 0 and self.scroll_y < self.size.height

    def _near_end(self) -> bool:
        return self._end < len(self._path) and self.scroll_y > self.max_scroll_y - self.size.height

    def _extend(self) -> None:
        self._is_extending = False
        if self._near_start():
            self._extend_up()
        elif self._near_end():
            self._extend_down()

    def _top(self, y: float) -> tuple[Widget, int] | None:
        """The turn at the top of what is seen, and how much of it is above."""
        found = None
        for view in self._shown():
            if view.virtual_region.y > y and found is not None:
                break
            found = view
        return (found, int(y) - found.virtual_region.y) if found is not None else None

    def arrange(self, size: Size, optimal: bool = False) -> DockArrangeResult:
        """Where turns are; what is seen stays where it is, or follows the end."""
        result = super().arrange(size, optimal)
        if size.height == self.container_size.height and not optimal:
            self._hold(result, size.height)
        return result

    def _hold(self, result: DockArrangeResult, height: int) -> None:
        most = max(0, result.total_region.bottom - height)
        if self._follows:
            y = most
        elif self._pin is not None:
            view, above = self._pin
            top = next((placed.region.y for placed in result.placements if placed.widget is view), None)
            if top is None:
                return
            y = max(0, min(top + above, most))
        else:
            return
        if y != self.scroll_y:
            self.set_reactive(Widget.scroll_y, float(y))
            self.set_reactive(Widget.scroll_target_y, float(y))
            self.vertical_scrollbar.set_reactive(ScrollBar.position, y)


def _num_same(old: list[Node], new: list[Node]) -> int:
    """How many turns both begin with."""
    num = 0
    for one, other in zip(old, new, strict=False):
        if one.id != other.id:
            break
        num += 1
    return num


def _outcome(result: Node) -> tuple[CallState, str]:
    """How a call ended, of the node of its result."""
    match result.state:
        case "failed":
            return "failed", result.content
        case "stopped":
            return "refused", result.content
        case _:
            return "done", result.content
