"""Markdown that grows, one widget for a whole text: drawn line by line out of kept lines; only its end is read again.

Pieces that come fast are gathered and drawn together, at most some twenty times a second, and less often where drawing
takes long, so that a text never costs more than a share of the time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from localllm_tui.markdown.document import Document
from localllm_tui.markdown.plain import plain_blocks
from localllm_tui.markdown.values import CodeBlock, Line
from localllm_tui.widgets.strips import Painter
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.selection import Selection
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget

_FRAME_S = 1 / 20
# Reading and laying out the end of a text takes at most this share of the time.
_SHARE = 0.15
_MAX_WAIT_S = 0.5


class MarkdownView(Widget):
    """One text. `append` grows it, `show` replaces it, `finish` says that no more comes.

    `is_plain`: it is no Markdown but for fenced code, and does not grow.
    """

    DEFAULT_CSS = "MarkdownView { height: auto; }"

    @dataclass
    class LinkAsked(Message):
        """A person wants to go to an address (http or https)."""

        address: str

    @dataclass
    class CodeAsked(Message):
        """A person wants code block number `index`: copied or saved."""

        index: int
        what: Literal["copy", "save"]

    def __init__(self, text: str = "", *, is_growing: bool = False, is_plain: bool = False) -> None:
        super().__init__()
        self._is_plain = is_plain
        self._source = text
        self._pending: list[str] = []
        self._frame: Timer | None = None
        self._frame_s = 0.0
        self._document = Document()
        self._painter = Painter(self)
        self._strips: dict[int, Strip] = {}
        self._read(text, is_growing)

    @property
    def source(self) -> str:
        """The Markdown shown."""
        return self._source + "".join(self._pending)

    @property
    def lines(self) -> list[Line]:
        """The lines as they are drawn."""
        return self._document.lines

    def append(self, text: str) -> None:
        """More of it; seen with the next frame."""
        self._pending.append(text)
        self._ask_for_frame()

    def on_mount(self) -> None:
        """What came before there was a screen is seen with its first frame."""
        self._ask_for_frame()

    def _ask_for_frame(self) -> None:
        if self._pending and self._frame is None and self.is_attached:
            self._frame = self.set_timer(min(max(_FRAME_S, self._frame_s / _SHARE), _MAX_WAIT_S), self._draw)

    def show(self, text: str, *, is_growing: bool = False) -> None:
        """This text, and no more comes, unless it is growing."""
        if text == self.source and text:
            if not is_growing and not self._is_plain:
                self.finish()
            return
        self._pending.clear()
        self._read(text, is_growing)
        self._changed(0)

    def finish(self) -> None:
        """No more comes: the end is shown as it stands."""
        self._flush()
        self._document.finish()
        self._update()

    def code_blocks(self) -> list[CodeBlock]:
        """The fenced blocks, in order."""
        self._flush()
        return self._document.code_blocks()

    def _read(self, text: str, is_growing: bool) -> None:
        self._source = text
        if self._is_plain:
            self._document = Document.of_blocks(plain_blocks(text))
            return
        self._document = Document()
        self._document.append(text)
        if not is_growing:
            self._document.finish()

    def _flush(self) -> None:
        if self._pending:
            text = "".join(self._pending)
            self._pending.clear()
            self._source += text
            self._document.append(text)

    def _draw(self) -> None:
        """One frame."""
        self._frame = None
        start = time.perf_counter()
        self._flush()
        self._update()
        self._frame_s = time.perf_counter() - start

    def _update(self) -> None:
        width = self.content_size.width
        if width:
            height = len(self.lines)
            first = self._document.update(width)
            self._changed(first, height)

    def _changed(self, first: int, old_height: int | None = None) -> None:
        """Lines from `first` on are others now."""
        for y in [y for y in self._strips if y >= first]:
            del self._strips[y]
        if old_height is None or len(self.lines) != old_height:
            self.refresh(layout=True, repaint=old_height is None)
        if old_height is not None and first < len(self.lines):
            self.refresh(Region(0, first, self.content_size.width, len(self.lines) - first))

    def get_content_width(self, container: Size, viewport: Size) -> int:  # noqa: ARG002
        """All there is."""
        return container.width

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002
        """The lines it takes."""
        if width:
            first = self._document.update(width)
            if first < len(self.lines):
                self._strips.clear()
        return len(self.lines)

    def render_line(self, y: int) -> Strip:
        """A line, as a terminal gets it."""
        # The screen may draw a widget once more that was just taken off it.
        selection = self.text_selection if self.is_attached else None
        if selection is None and (strip := self._strips.get(y)) is not None:
            return strip
        width = self.content_size.width
        if y >= len(self.lines):
            return self._painter.blank(width)
        span = selection.get_span(y) if selection is not None else None
        strip = self._painter.strip(self.lines[y], y, width, span)
        if selection is None:
            self._strips[y] = strip
        return strip

    def render_lines(self, crop: Region) -> list[Strip]:
        """Lines as they are kept. There is nothing around them that would have to be drawn anew when one is added."""
        strips = [self.render_line(y) for y in crop.line_range]
        for line_filter in self.get_line_filters():
            background = self.background_colors[1]
            strips = [strip.apply_filter(line_filter, background) for strip in strips]
        if crop.column_span != (0, self.size.width):
            strips = [strip.crop(*crop.column_span) for strip in strips]
        return strips

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The text that is selected, its own line ends only, without what is drawn around it."""
        return selected_text(self.lines, selection), "\n"

    def selection_updated(self, selection: Selection | None) -> None:  # noqa: ARG002
        """Another selection."""
        self._strips.clear()
        self.refresh()

    def notify_style_update(self) -> None:
        """Another theme, or another place."""
        self._painter.forget()
        self._strips.clear()
        super().notify_style_update()

    def on_click(self, event: events.Click) -> None:
        """A link, or what can be done with code."""
        action = event.style.meta.get("turn")
        if not isinstance(action, str):
            return
        event.stop()
        kind, _, what = action.partition(":")
        if kind == "link":
            self.post_message(self.LinkAsked(what))
        elif kind in ("copy", "save"):
            self.post_message(self.CodeAsked(int(what), "copy" if kind == "copy" else "save"))


def selected_text(lines: list[Line], selection: Selection) -> str:
    """The characters of a selection: wrapped lines are one line again, decoration is left out."""
    parts: list[str] = []
    start = selection.start.y if selection.start is not None else 0
    end = selection.end.y if selection.end is not None else len(lines) - 1
    for y in range(max(0, start), min(end, len(lines) - 1) + 1):
        line = lines[y]
        span = selection.get_span(y)
        if span is None:
            continue
        text = line.text
        first, last = max(span[0], line.indent), len(text) if span[1] == -1 else span[1]
        if parts:
            parts.append("\n" if line.glue is None else line.glue)
        parts.append(text[first:last].rstrip() if line.glue != "" else text[first:last])
    return "".join(parts)
