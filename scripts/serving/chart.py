"""A chart of the medians as SVG: a row for each workload, a bar for each target; readable on light and dark pages."""

from __future__ import annotations

from html import escape

from serving.figures import Figures
from serving.run import Results

# Figure, title, factor, unit.
Panel = tuple[str, str, float, str]
PANELS: tuple[Panel, ...] = (
    ("tokens_per_s", "tokens per second, more is better", 1.0, " tok/s"),
    ("first_token_p50_s", "first token p50, less is better", 1000.0, " ms"),
    ("longest_stall_s", "longest stall, less is better", 1000.0, " ms"),
)
COLOURS = ("#3b82c4", "#e08a3c", "#4f9d69", "#b05a9c", "#8a8f98")
BAR, GAP, ROW_GAP, TOP, BAR_WIDTH, VALUE_WIDTH, PANEL_GAP = 14, 3, 14, 64, 180, 84, 28
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.axis{stroke:#8a8f98}"
    "@media (prefers-color-scheme:dark){text{fill:#e6edf3}}"
)


def chart(results: Results) -> str:
    """The SVG document. Bars of a row are as long as their share of the row's largest value."""
    medians = results.medians()
    left = 24 + 8 * max([len(name) for name in medians], default=0)
    row = len(results.targets) * (BAR + GAP) + ROW_GAP
    panel = BAR_WIDTH + VALUE_WIDTH + PANEL_GAP
    width, height = left + panel * len(PANELS), TOP + row * len(medians)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'role="img">',
        f"<title>Serving: {escape(', '.join(results.targets))}</title>",
        f"<style>{STYLE}</style>",
        *_legend(results.targets),
    ]
    for number, what in enumerate(PANELS):
        x = left + number * panel
        parts.append(_text(x, TOP - 14, what[1], "title"))
        parts.append(f'<line class="axis" x1="{x}" y1="{TOP - 6}" x2="{x}" y2="{height - ROW_GAP}"/>')
        for at, by_target in enumerate(medians.values()):
            parts += _bars(x, TOP + at * row, by_target, results.targets, what)
    middle = len(results.targets) * (BAR + GAP) / 2 + 4
    parts += [_text(8, TOP + at * row + middle, name, "title") for at, name in enumerate(medians)]
    return "\n".join([*parts, "</svg>\n"])


def _legend(targets: list[str]) -> list[str]:
    parts: list[str] = []
    x = 8.0
    for at, target in enumerate(targets):
        parts.append(f'<rect x="{x:g}" y="10" width="{BAR}" height="{BAR}" rx="2" fill="{_colour(at)}"/>')
        parts.append(_text(x + BAR + 6, 21, target))
        x += BAR + 30 + 7.5 * len(target)
    return parts


def _bars(x: float, y: float, by_target: dict[str, Figures], targets: list[str], panel: Panel) -> list[str]:
    figure, _, factor, unit = panel
    values = {target: by_target[target][figure] for target in targets if figure in by_target.get(target, {})}
    largest = max(values.values(), default=0.0)
    parts: list[str] = []
    for at, target in enumerate(targets):
        top = y + at * (BAR + GAP)
        if target not in values:
            parts.append(_text(x + 6, top + BAR - 3, "none"))
            continue
        length = max(1.0, BAR_WIDTH * values[target] / largest) if largest else 1.0
        parts.append(f'<rect x="{x:g}" y="{top:g}" width="{length:.1f}" height="{BAR}" rx="2" fill="{_colour(at)}"/>')
        number = values[target] * factor
        label = f"{number:.0f}" if number >= 100 else f"{number:.1f}"
        parts.append(_text(x + length + 6, top + BAR - 3, label + unit))
    return parts


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{style}>{escape(text)}</text>'


def _colour(at: int) -> str:
    return COLOURS[at % len(COLOURS)]
