"""The line above a turn: who speaks, when, which version of how many, and what can be done with it. Drawn, no more."""

from __future__ import annotations

import time

from localllm_tui.history.values import Node
from localllm_tui.look.names import shown_model, tooltip
from textual.content import Content
from textual.style import Style
from textual.widget import Widget

from localllm.terminal_text import cut, width

_NAMES = {"user": "You", "assistant": "Model", "system": "Instructions", "tool": "Tool"}


def speaker(node: Node) -> str:
    """Who speaks."""
    if node.role == "assistant" and node.model:
        return shown_model(node.model)
    return _NAMES[node.role]


def clock(created: float, now: float) -> str:
    """The time of a turn, with its day where that is not today."""
    if not created:
        return ""
    then, today = time.localtime(created), time.localtime(now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M", then)
    return time.strftime("%d %b %H:%M" if then[0] == today[0] else "%d %b %Y", then)


def act(text: str, action: str, style: str = "") -> Content:
    """Words that can be clicked; what they mean is in the style's `turn`."""
    return Content.styled(text, Style.from_meta({"turn": action})).stylize_before(style)


class TurnHead(Widget):
    """One line. `actions` are words and what they mean; they are shown while `is_lit`, as many as there is room for."""

    DEFAULT_CSS = """
    TurnHead { height: 1; }
    """

    def __init__(self, node: Node, place: tuple[int, int], actions: tuple[tuple[str, str], ...]) -> None:
        super().__init__()
        self._node, self._place = node, place
        self._actions = actions
        self.is_lit = False
        self.tooltip = tooltip(node.model or "")

    def show(self, node: Node, place: tuple[int, int], actions: tuple[tuple[str, str], ...]) -> None:
        """The turn as it is now."""
        self._node, self._place, self._actions = node, place, actions
        self.tooltip = tooltip(node.model or "")
        self.refresh()

    def light(self, is_lit: bool) -> None:
        """Show what can be done, or do not."""
        if is_lit != self.is_lit:
            self.is_lit = is_lit
            self.refresh()

    def render(self) -> Content:
        """The line."""
        room = self.size.width
        number, count = self._place
        versions = f"‹ {number}/{count} ›"
        name = cut(speaker(self._node), max(4, room - (len(versions) + 2 if count > 1 else 0)))
        color = "bold $primary" if self._node.role == "user" else "bold $foreground"
        parts: list[str | Content | tuple[str, str]] = [(name, color)]
        used = width(name)
        if count > 1 and used + len(versions) + 2 <= room:
            muted = "$foreground-muted"
            parts += ["  ", act("‹ ", "sibling:-1", muted), (f"{number}/{count}", muted), act(" ›", "sibling:1", muted)]
            used += len(versions) + 2
        when = clock(self._node.created, time.time())
        if when and used + len(when) + 2 <= room:
            parts += ["  ", (when, "$foreground-muted 70%")]
            used += len(when) + 2
        if self.is_lit:
            parts += self._lit(room - used)
        return Content.assemble(*parts)

    def _lit(self, room: int) -> list[str | Content | tuple[str, str]]:
        """What can be done, at the right."""
        parts: list[str | Content | tuple[str, str]] = []
        used = 0
        for words, action in self._actions:
            if used + len(words) + 3 > room:
                break
            parts += ["   ", act(words, action, "$foreground-muted")]
            used += len(words) + 3
        return [" " * (room - used), *parts] if parts else []
