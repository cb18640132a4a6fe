"""A chart of the last values, a column each, drawn with eighths of a cell. In plain mode it is a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import RenderResult
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

_EIGHTHS = " ▁▂▃▄▅▆▇█"


class Chart(Widget):
    """`values`, the newest last, against the largest of those that are seen. `unit` is said with the numbers."""

    SCOPED_CSS = False  # `-plain` is a class of the app, which is above what a scope reaches
    DEFAULT_CSS = """
    Chart { height: 4; color: $accent; }
    .-plain Chart { height: 1; color: $foreground; }
    """

    values: reactive[tuple[float, ...]] = reactive(())

    def __init__(self, unit: str, **kwargs: str | None) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.unit = unit

    def render(self) -> RenderResult:
        """As many columns as there is room for."""
        if self.app.has_class("-plain"):
            return Content(sentence(self.values, self.unit))
        columns, rows = self.content_size
        return Content("\n".join(draw(self.values, columns, rows)))


def draw(values: Sequence[float], columns: int, rows: int) -> list[str]:
    """The last `columns` values as `rows` lines, the top one first; the largest of them fills its column."""
    if columns <= 0 or rows <= 0:
        return []
    seen = list(values)[-columns:]
    top = max(seen, default=0.0)
    levels = [round(max(0.0, value) / top * rows * 8) if top > 0 else 0 for value in seen]
    # What is not nothing can be seen.
    levels = [max(level, 1) if value > 0 else 0 for level, value in zip(levels, seen, strict=True)]
    pad = " " * (columns - len(seen))
    lines = []
    for row in reversed(range(rows)):
        lines.append(pad + "".join(_EIGHTHS[min(max(level - row * 8, 0), 8)] for level in levels))
    return lines


def sentence(values: Sequence[float], unit: str) -> str:
    """The same in words."""
    if not values:
        return f"no {unit} measured yet"
    return f"{values[-1]:.0f} {unit} now, {max(values):.0f} at most in the last {len(values)} seconds"
