"""Lines of a text to strips of a terminal, in the colours that a widget has now."""

from __future__ import annotations

from localllm_tui.markdown.values import Line, Piece
from rich.segment import Segment
from rich.style import Style as RichStyle
from textual.strip import Strip
from textual.style import Style
from textual.widget import Widget


class Painter:
    """Styles by name, looked up once for a theme."""

    def __init__(self, widget: Widget) -> None:
        self._widget = widget
        self._styles: dict[str, RichStyle] = {}
        self._actions: dict[tuple[str, str], RichStyle] = {}

    def forget(self) -> None:
        """The colours are others now."""
        self._styles.clear()
        self._actions.clear()

    def style(self, name: str) -> RichStyle:
        """How a style of a line looks on this widget."""
        found = self._styles.get(name)
        if found is None:
            base = self._widget.visual_style
            own = self._widget.app.stylesheet.parse_style(name) if name else Style()
            found = self._styles[name] = (base + own).rich_style
        return found

    def blank(self, width: int) -> Strip:
        """An empty line."""
        return Strip.blank(width, self.style(""))

    def strip(self, line: Line, y: int, width: int, span: tuple[int, int] | None = None) -> Strip:
        """A line at `y`, as wide as the widget; characters in `span` (-1: to the end) are selected."""
        pieces = line.pieces if span is None else self._select(line.pieces, *span)
        segments = [Segment(piece.text, self._of(piece)) for piece in pieces]
        strip = Strip(segments, line.cells).apply_offsets(0, y)
        return strip.adjust_cell_length(width, self.style(line.fill))

    def _of(self, piece: Piece) -> RichStyle:
        if piece.action is None:
            return self.style(piece.style)
        key = (piece.style, piece.action)
        found = self._actions.get(key)
        if found is None:
            found = self._actions[key] = self.style(piece.style) + RichStyle.from_meta({"turn": piece.action})
        return found

    def _select(self, pieces: tuple[Piece, ...], start: int, end: int) -> list[Piece]:
        """Pieces with the selected ones in the colours of a selection."""
        found: list[Piece] = []
        at = 0
        for piece in pieces:
            text = piece.text
            first = min(max(0, start - at), len(text))
            last = len(text) if end == -1 else min(max(first, end - at), len(text))
            parts = ((text[:first], ""), (text[first:last], self._selection), (text[last:], ""))
            found.extend(
                piece._replace(text=part, style=f"{piece.style} {extra}".strip()) for part, extra in parts if part
            )
            at += len(text)
        return found

    @property
    def _selection(self) -> str:
        styles = self._widget.screen.get_component_styles("screen--selection")
        return f"on {styles.background.css}"
