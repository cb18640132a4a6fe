"""Blocks to lines of a width. Pure."""

from __future__ import annotations

from localllm_tui.markdown import styles
from localllm_tui.markdown.cells import cells, folds
from localllm_tui.markdown.code import CodeLine
from localllm_tui.markdown.math import readable
from localllm_tui.markdown.table import table_lines
from localllm_tui.markdown.values import Block, Code, Heading, Items, Line, Math, Paragraph, Piece, Quote, Rule, Table
from localllm_tui.markdown.wrap import EMPTY, cut_pieces, wrap

from localllm.terminal_text import cut

# Where nesting leaves less than this, what is nested stands below its mark, with all the room there is.
_MIN_WIDTH = 8


def layout(blocks: tuple[Block, ...], width: int) -> list[Line]:
    """The lines of blocks, an empty line between them."""
    lines: list[Line] = []
    for block in blocks:
        if lines and not is_joined(block):
            lines.append(EMPTY)
        lines.extend(block_lines(block, width))
    return lines


def is_joined(block: Block) -> bool:
    """Whether it stands right below the block above."""
    return isinstance(block, Items) and block.is_continued


def block_lines(block: Block, width: int) -> list[Line]:
    """The lines of one block."""
    match block:
        case Paragraph(pieces):
            return wrap(pieces, width)
        case Heading(level, pieces):
            style = styles.HEADINGS[level - 1]
            return wrap(tuple(piece._replace(style=styles.both(style, piece.style)) for piece in pieces), width)
        case Code():
            return [code_head(block.language, block.index, width), *code_lines(block.lines, width)]
        case Items():
            return _items(block, width)
        case Quote(blocks):
            bar = Piece("▎ ", styles.QUOTE_BAR)
            if width < _MIN_WIDTH + 2:
                return layout(blocks, width)
            return [_indent(line, bar) for line in layout(blocks, width - 2)]
        case Table():
            return table_lines(block, width)
        case Rule():
            return [Line((Piece("─" * width, styles.RULE),), width, width)]
        case Math(text):
            return [_indent(line, Piece("  ")) for line in wrap((Piece(readable(text), styles.MATH),), width - 2)]


def _indent(line: Line, before: Piece, is_text: bool = False) -> Line:
    """A line with something before it, which is part of the text or not."""
    indent = line.indent + (0 if is_text else len(before.text))
    return Line((before, *line.pieces), line.cells + cells(before.text), indent, line.glue, line.fill)


def _items(block: Items, width: int) -> list[Line]:
    lines: list[Line] = []
    for item in block.items:
        if item.is_loose:
            lines.append(EMPTY)
        room = cells(item.mark) + 1
        mark, blank = Piece(f"{item.mark} ", styles.MARK), Piece(" " * room)
        if width < _MIN_WIDTH + room:
            lines += [Line((Piece(item.mark, styles.MARK),), room - 1), *_item_blocks(item.blocks, width)]
            continue
        inner = _item_blocks(item.blocks, width - room) or [EMPTY]
        lines.extend(_indent(line, mark if index == 0 else blank, index == 0) for index, line in enumerate(inner))
    return lines


def _item_blocks(blocks: tuple[Block, ...], width: int) -> list[Line]:
    """The blocks of an entry: a list right below its text, all else apart."""
    lines: list[Line] = []
    for block in blocks:
        if lines and not isinstance(block, Items):
            lines.append(EMPTY)
        lines.extend(block_lines(block, width))
    return lines


def code_head(language: str, index: int, width: int) -> Line:
    """The line above code: its language, and what can be done with it."""
    name = cut(language, max(0, width - 16))
    pieces = [Piece(f" {name}", styles.CODE_HEAD)]
    used = 1 + cells(name)
    if width - used >= 13:
        pieces += [
            Piece(" " * (width - used - 12), styles.CODE_HEAD),
            Piece("copy", styles.CODE_HEAD, f"copy:{index}"),
            Piece("   ", styles.CODE_HEAD),
            Piece("save", styles.CODE_HEAD, f"save:{index}"),
            Piece(" ", styles.CODE_HEAD),
        ]
        used = width
    return Line(tuple(pieces), used, sum(len(piece.text) for piece in pieces), None, styles.CODE_HEAD)


def code_lines(lines: tuple[CodeLine, ...] | list[CodeLine], width: int) -> list[Line]:
    """Lines of code; one that is too long goes on in the next."""
    found: list[Line] = []
    room = max(1, width - 2)
    for line in lines:
        text = "".join(piece.text for piece in line)
        size = cells(text)
        styled = tuple(piece._replace(style=styles.both(piece.style, styles.CODE)) for piece in line)
        if size <= room:
            found.append(_code_line(styled, size, None))
            continue
        found.extend(
            _code_line(cut_pieces(styled, start, end), cells(text[start:end]), "" if index else None)
            for index, (start, end) in enumerate(folds(text, room))
        )
    return found


_PAD = Piece(" ", styles.CODE)


def _code_line(pieces: tuple[Piece, ...], size: int, glue: str | None) -> Line:
    return Line((_PAD, *pieces), size + 1, 1, glue, styles.CODE)
