"""Running text to lines. Pure."""

from __future__ import annotations

from localllm_tui.markdown.cells import breaks, cells, joined
from localllm_tui.markdown.values import Line, Piece

EMPTY = Line((), 0)


def wrap(pieces: tuple[Piece, ...], width: int) -> list[Line]:
    """Running text in lines."""
    lines: list[Line] = []
    for part in _split(pieces):
        text = "".join(piece.text for piece in part)
        parts = breaks(text, width)
        if len(parts) == 1 and parts[0][:2] == (0, len(text)):
            lines.append(Line(tuple(part), cells(text)))
            continue
        lines.extend(
            Line(cut_pieces(part, start, end), cells(text[start:end]), 0, glue if index else None)
            for index, (start, end, glue) in enumerate(parts)
        )
    return lines or [EMPTY]


def _split(pieces: tuple[Piece, ...]) -> list[list[Piece]]:
    """Pieces by the line ends in them."""
    lines: list[list[Piece]] = [[]]
    for each in pieces:
        piece = each._replace(text=joined(each.text)) if "\u200d" in each.text else each
        if "\n" not in piece.text and "\t" not in piece.text:
            lines[-1].append(piece)
            continue
        first, *rest = piece.text.replace("\t", " ").split("\n")
        if first:
            lines[-1].append(piece._replace(text=first))
        lines.extend([piece._replace(text=text)] if text else [] for text in rest)
    return lines


def cut_pieces(pieces: list[Piece] | tuple[Piece, ...], start: int, end: int) -> tuple[Piece, ...]:
    """What lies between two characters."""
    found: list[Piece] = []
    at = 0
    for piece in pieces:
        next_at = at + len(piece.text)
        if next_at > start and at < end:
            found.append(piece._replace(text=piece.text[max(0, start - at) : end - at]))
        at = next_at
        if at >= end:
            break
    return tuple(found)
