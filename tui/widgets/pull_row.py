"""A model on its way: how far it is, how fast, how long still; and what can be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from textual import on
from textual.app import ComposeResult, RenderResult
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Button

from localllm.terminal_text import cut, safe_line, safe_stream, width

Wish = Literal["pause", "resume", "drop"]
_BAR_COLUMNS = 24


class _Line(Widget):
    """Name, bar and words; below it what went wrong."""

    DEFAULT_CSS = "_Line { width: 1fr; height: auto; }"

    name_: reactive[str] = reactive("", layout=True)
    words: reactive[str] = reactive("", layout=True)
    share: reactive[float | None] = reactive(None)
    trouble: reactive[str] = reactive("", layout=True)

    def render(self) -> RenderResult:
        """One line, more where there is trouble."""
        columns = max(1, self.content_size.width or self.container_size.width)
        name = cut(safe_line(self.name_), max(8, columns // 3))
        parts: list[Content | str] = [Content.styled(name, "bold"), "  "]
        room = columns - width(name) - 2
        if self.share is not None and room > _BAR_COLUMNS + 12:
            filled = round(self.share * _BAR_COLUMNS)
            parts += [
                Content.styled("━" * filled, "$accent"),
                Content.styled("━" * (_BAR_COLUMNS - filled), "$text-disabled"),
                f" {int(self.share * 100):3d}%  ",
            ]
            room -= _BAR_COLUMNS + 7
        elif self.share is not None:
            parts.append(f"{int(self.share * 100):3d}%  ")
            room -= 6
        if not self.trouble:
            return Content.assemble(*parts, (cut(self.words, max(1, room)), "$text-muted"))
        line = Content.assemble(*parts, (self.words, "$text-error"))
        return Content("\n").join([line, Content.styled(safe_stream(self.trouble), "$text-muted")])


class PullRow(Widget):
    """One pull. `show` is told where it stands."""

    DEFAULT_CSS = """
    PullRow { height: auto; padding: 0 1; layout: horizontal; }
    PullRow Horizontal { width: auto; height: auto; }
    PullRow Button {
        width: auto; min-width: 8; margin: 0 0 0 1; background: transparent; color: $text-accent; text-style: none;
    }
    PullRow Button:focus { text-style: reverse; }
    """

    @dataclass
    class Asked(Message):
        """What the person wants with the pull of that name. `resume` also tries again what failed."""

        name: str
        wish: Wish

    def __init__(self, name: str) -> None:
        super().__init__()
        self.pull_name = name

    def compose(self) -> ComposeResult:
        """The line, and what can be done."""
        yield _Line()
        with Horizontal():
            yield Button("Pause", compact=True, classes="first")
            yield Button("Drop", compact=True, classes="drop")

    def show(self, state: str, words: str, share: float | None, trouble: str = "") -> None:
        """Where it stands: "running", "paused", "failed" or "done"."""
        line = self.query_one(_Line)
        line.name_, line.words, line.share, line.trouble = self.pull_name, words, share, trouble
        first, drop = self.query_one(".first", Button), self.query_one(".drop", Button)
        first.label = {"running": "Pause", "paused": "Resume", "failed": "Retry"}.get(state, "")
        first.display = state != "done"
        drop.label = "OK" if state == "done" else "Drop"

    @property
    def is_ready(self) -> bool:
        """Whether it can be shown something already."""
        return self.is_mounted and bool(self.children)

    @property
    def text(self) -> str:
        """What is seen of it."""
        return str(self.query_one(_Line).render()) if self.is_ready else ""

    @on(Button.Pressed, ".first")
    def _first(self, event: Button.Pressed) -> None:
        event.stop()
        wish: Wish = "pause" if str(event.button.label) == "Pause" else "resume"
        self.post_message(self.Asked(self.pull_name, wish))

    @on(Button.Pressed, ".drop")
    def _drop(self, event: Button.Pressed) -> None:
        event.stop()
        self.post_message(self.Asked(self.pull_name, "drop"))
