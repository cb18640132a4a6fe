"""Markdown to blocks: what a parser finds, in the values that are drawn. No HTML, no network."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from localllm_tui.markdown import styles
from localllm_tui.markdown.code import highlight
from localllm_tui.markdown.inline import pieces
from localllm_tui.markdown.values import (
    Align,
    Block,
    Code,
    Heading,
    Item,
    Items,
    Math,
    Paragraph,
    Piece,
    Quote,
    Rule,
    Table,
)

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

# Deeper than this is shown as text; real texts do not nest so.
_MAX_NESTING = 12
_TASK = re.compile(r"\[([ xX])\](?: |$)")
_ALIGNS: dict[str, Align] = {"text-align:center": "center", "text-align:right": "right"}


@cache
def parser() -> MarkdownIt:
    """CommonMark with tables, struck text and formulas; HTML is text."""
    from localllm_tui.markdown.math import add_math
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False, "maxNesting": _MAX_NESTING}).enable(["table", "strikethrough"])
    # An address given further down would change what is settled above; it is shown where it stands instead.
    made.disable(["reference"])
    add_math(made)
    return made


def tokens_of(text: str) -> list[Token]:
    """What the parser finds in `text`."""
    return parser().parse(text)


class Entry(NamedTuple):
    """The next entry of a list: its number, and whether an empty line stands above it."""

    number: int
    is_loose: bool


class Reader:
    """Makes blocks of the tokens of `text`. `num_code` counts code blocks on, so that each has a number of its own.

    `entry`: what the first list goes on from, where it began further up.
    """

    def __init__(self, text: str, num_code: int = 0, entry: Entry | None = None) -> None:
        self.num_code = num_code
        self._lines = text.split("\n")
        self._entry = entry

    def blocks(self, tokens: list[Token]) -> tuple[Block, ...]:
        """The blocks of tokens of one level."""
        found: list[Block] = []
        index = 0
        while index < len(tokens):
            end = closing(tokens, index)
            block = self._block(tokens, index, end)
            if block is not None:
                found.append(block)
            index = end + 1
        return tuple(found)

    def _block(self, tokens: list[Token], start: int, end: int) -> Block | None:
        token = tokens[start]
        inner = tokens[start + 1 : end]
        match token.type:
            case "paragraph_open":
                return Paragraph(pieces(inner[0]))
            case "heading_open":
                return Heading(int(token.tag[1:]), pieces(inner[0]))
            case "fence" | "code_block":
                return self.code(token.info if token.type == "fence" else "", token.content)
            case "bullet_list_open" | "ordered_list_open":
                return self._items(token, inner)
            case "blockquote_open":
                return Quote(self.blocks(inner))
            case "table_open":
                return _table(inner)
            case "hr":
                return Rule()
            case "math_block":
                return Math(token.content)
        return None

    def code(self, info: str, text: str) -> Code:
        """A block of code, coloured."""
        words = info.split()
        language = words[0] if words else ""
        text = text.removesuffix("\n")
        self.num_code += 1
        return Code(language, text, highlight(text, language), self.num_code - 1)

    def _items(self, opened: Token, tokens: list[Token]) -> Items:
        is_ordered = opened.type == "ordered_list_open"
        goes_on, self._entry = self._entry, None
        number = goes_on.number if goes_on else int(opened.attrs.get("start", 1))
        items: list[Item] = []
        index = 0
        while index < len(tokens):
            end = closing(tokens, index)
            task, blocks = _task(self.blocks(tokens[index + 1 : end]))
            mark = task or (f"{number + len(items)}." if is_ordered else "•")
            is_loose = self._is_blank_above(tokens[index]) if items else bool(goes_on and goes_on.is_loose)
            items.append(Item(mark, blocks, is_loose))
            index = end + 1
        return Items(tuple(items), goes_on is not None)

    def _is_blank_above(self, token: Token) -> bool:
        """Whether an empty line stands above."""
        line = token.map[0] - 1 if token.map else -1
        return 0 <= line < len(self._lines) and not self._lines[line].strip(" \t>")


def closing(tokens: list[Token], start: int) -> int:
    """The index of the token that closes the one at `start`; itself where it is whole."""
    if tokens[start].nesting != 1:
        return start
    depth = 0
    for index in range(start, len(tokens)):
        depth += tokens[index].nesting
        if depth == 0:
            return index
    return len(tokens) - 1


def _task(blocks: tuple[Block, ...]) -> tuple[str | None, tuple[Block, ...]]:
    """An entry that starts with `[ ]` or `[x]`: its mark, and the blocks without."""
    if not blocks or not isinstance(first := blocks[0], Paragraph) or not first.pieces:
        return None, blocks
    piece = first.pieces[0]
    match = _TASK.match(piece.text)
    if match is None or piece.style:
        return None, blocks
    rest = Paragraph((Piece(piece.text[match.end() :]), *first.pieces[1:]))
    return ("☐" if match[1] == " " else "☑"), (rest, *blocks[1:])


def _table(tokens: list[Token]) -> Table:
    rows: list[tuple[tuple[Piece, ...], ...]] = []
    row: list[tuple[Piece, ...]] = []
    aligns: list[Align] = []
    for index, token in enumerate(tokens):
        match token.type:
            case "tr_open":
                row = []
            case "th_open" | "td_open":
                row.append(pieces(tokens[index + 1], styles.TABLE_HEAD if token.type == "th_open" else ""))
                if not rows:
                    aligns.append(_ALIGNS.get(str(token.attrs.get("style", "")), "left"))
            case "tr_close":
                rows.append(tuple(row))
    return Table(tuple(rows), tuple(aligns))
