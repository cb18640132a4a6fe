"""The line of figures: context, cache, speed, queue, memory. Measured ones only; what is not known is not shown."""

from __future__ import annotations

from localllm_tui.turns.gauges import Gauges, Piece, fitting, pieces
from textual.app import RenderResult
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

_BAR_COLUMNS = 16
_GAP = "   "
_TONES = {"": "$text-muted", "accent": "$text-accent", "warning": "$text-warning"}


class GaugeBar(Widget):
    """One calm line; in a narrow place what matters less is left out."""

    DEFAULT_CSS = "GaugeBar { height: 1; padding: 0 2; }"

    gauges: reactive[Gauges] = reactive(Gauges())

    def show(self, gauges: Gauges) -> None:
        """The figures as they are now."""
        self.gauges = gauges

    def render(self) -> RenderResult:
        """The line."""
        columns = self.content_size.width
        line = fitting(pieces(self.gauges), columns, len(_GAP), _BAR_COLUMNS)
        if self.app.has_class("-plain"):
            return Content(", ".join(piece.text for piece in line if piece.share is None))
        return Content(_GAP).join([self._part(piece) for piece in line])

    def _part(self, piece: Piece) -> Content:
        if piece.share is None:
            return Content.styled(piece.text, _TONES[piece.tone])
        filled = round(piece.share * _BAR_COLUMNS)
        if piece.share > 0:
            filled = max(1, filled)
        return Content.assemble(
            ("━" * filled, "$text-warning" if piece.tone == "warning" else "$accent"),
            (("─" if self.app.no_color else "━") * (_BAR_COLUMNS - filled), "$panel"),
        )
