"""Plain aligned tables that fit the terminal. Pure: rows in, lines out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from localllm import terminal_text as text

GAP = 2
_MIN_WIDTH = 8


class Column(NamedTuple):
    """One column. `keep`: how long it stays when room is short, 0 goes first; the highest is never dropped."""

    title: str
    right: bool = False
    keep: int = 1


def lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], columns_of_terminal: int | None) -> list[str]:
    """The table as lines. None for the terminal's width means: as wide as it needs (a file or a pipe).

    Where room is short, columns are dropped from the least kept (right to left), then the first is cut.
    """
    cells = [[text.safe_line(cell) for cell in row] for row in rows]
    shown = list(range(len(columns)))
    widths = [max([text.width(columns[i].title), *(text.width(row[i]) for row in cells)]) for i in shown]
    if columns_of_terminal is not None:
        while len(shown) > 1 and _total(widths, shown) > columns_of_terminal:
            least = min(shown, key=lambda i: (columns[i].keep, -i))
            if least == shown[0]:
                break
            shown.remove(least)
        over = _total(widths, shown) - columns_of_terminal
        if over > 0:
            widths[shown[0]] = max(_MIN_WIDTH, widths[shown[0]] - over)
    head = [column.title for column in columns]
    return [_line([row[i] for i in shown], [(widths[i], columns[i].right) for i in shown]) for row in [head, *cells]]


def pairs(facts: Sequence[tuple[str, str]]) -> list[str]:
    """Name and value a line, values aligned; lines of a longer value keep the indent."""
    indent = max((text.width(name) for name, _ in facts), default=0) + GAP
    found = []
    for name, value in facts:
        first, *rest = [text.safe_line(line) for line in value.split("\n")]
        found.append(f"{name}{' ' * (indent - text.width(name))}{first}".rstrip())
        found += [f"{' ' * indent}{line}".rstrip() for line in rest]
    return found


def _total(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[i] for i in shown) + GAP * (len(shown) - 1)


def _line(cells: Sequence[str], shape: Sequence[tuple[int, bool]]) -> str:
    padded = []
    for cell, (columns, right) in zip(cells, shape, strict=True):
        shown = text.cut(cell, columns)
        space = " " * (columns - text.width(shown))
        padded.append(space + shown if right else shown + space)
    return (" " * GAP).join(padded).rstrip()
