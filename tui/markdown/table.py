"""Tables in lines: columns as wide as they need to be, narrower where the terminal is, cells wrapped. Pure."""

from __future__ import annotations

from localllm_tui.markdown import styles
from localllm_tui.markdown.cells import cells
from localllm_tui.markdown.values import Align, Line, Piece, Table
from localllm_tui.markdown.wrap import EMPTY, wrap

_GAP = 3
_MIN_COLUMN = 4

Cell = tuple[Piece, ...]


def table_lines(table: Table, width: int) -> list[Line]:
    """The lines of a table; where not even narrow columns fit, its rows as lists of "head: cell"."""
    num_columns = len(table.aligns)
    if not num_columns:
        return []
    room = width - _GAP * (num_columns - 1)
    rows = [(*row, *((),) * (num_columns - len(row)))[:num_columns] for row in table.rows]
    if room < num_columns * _MIN_COLUMN:
        return _as_list(rows, width)
    widths = column_widths(rows, room)
    lines: list[Line] = []
    is_tall = False
    for index, row in enumerate(rows):
        drawn = _row(row, widths, table.aligns)
        if index > 1 and (is_tall or len(drawn) > 1):
            lines.append(_rule(widths, "┼", "·"))
        lines.extend(drawn)
        is_tall = len(drawn) > 1
        if index == 0:
            lines.append(_rule(widths, "┼", "─"))
            is_tall = False
    return lines


def column_widths(rows: list[tuple[Cell, ...]], room: int) -> list[int]:
    """Each column's width: what its widest cell takes where that fits; else wide columns give way, down to a share."""
    wanted = [max(1, *(_cell_width(row[column]) for row in rows)) for column in range(len(rows[0]))]
    if sum(wanted) <= room:
        return wanted
    widths = [0] * len(wanted)
    open_columns = sorted(range(len(wanted)), key=wanted.__getitem__)
    left = room
    for position, column in enumerate(open_columns):
        share = left // (len(open_columns) - position)
        widths[column] = min(wanted[column], max(1, share))
        left -= widths[column]
    return widths


def _cell_width(cell: Cell) -> int:
    text = "".join(piece.text for piece in cell)
    return cells(text) if "\n" not in text else max(cells(line) for line in text.split("\n"))


def _row(row: tuple[Cell, ...], widths: list[int], aligns: tuple[Align, ...]) -> list[Line]:
    wrapped = [wrap(cell, size) for cell, size in zip(row, widths, strict=True)]
    height = max(len(lines) for lines in wrapped)
    found: list[Line] = []
    for y in range(height):
        pieces: list[Piece] = []
        for column, lines in enumerate(wrapped):
            if column:
                pieces.append(Piece(" │ ", styles.TABLE_LINE))
            line = lines[y] if y < len(lines) else None
            pieces.extend(_aligned(line, widths[column], aligns[column]))
        found.append(Line(tuple(pieces), sum(widths) + _GAP * (len(widths) - 1)))
    return found


def _aligned(line: Line | None, size: int, align: Align) -> list[Piece]:
    if line is None:
        return [Piece(" " * size)]
    space = max(0, size - line.cells)
    left = space if align == "right" else space // 2 if align == "center" else 0
    before = [Piece(" " * left)] if left else []
    after = [Piece(" " * (space - left))] if space > left else []
    return [*before, *line.pieces, *after]


def _rule(widths: list[int], cross: str, dash: str) -> Line:
    text = f"{dash}{cross}{dash}".join(dash * size for size in widths)
    return Line((Piece(text, styles.TABLE_LINE),), len(text), len(text))


def _as_list(rows: list[tuple[Cell, ...]], width: int) -> list[Line]:
    """For a terminal too narrow for columns."""
    head, *rest = rows
    lines: list[Line] = []
    for row in rest or [head]:
        if lines:
            lines.append(EMPTY)
        for name, cell in zip(head, row, strict=True):
            lines.extend(wrap((*name, Piece(": ", styles.TABLE_HEAD), *cell) if rest else cell, width))
    return lines
