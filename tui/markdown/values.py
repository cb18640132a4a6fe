"""What a text is made of: blocks, as parsed, and lines, as drawn. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Align = Literal["left", "center", "right"]


class Piece(NamedTuple):
    """Text of one look. `style` is a style of Textual's ("bold $primary"); `action` what a click on it means.

    Actions: `link:<url>`, `copy:<index of the code block>`, `save:<index>`.
    """

    text: str
    style: str = ""
    action: str | None = None


class Line(NamedTuple):
    """One line of a terminal. `cells` is its width, `indent` how many of its first characters are decoration.

    `glue` joins it to the line above where both are one line of the text, wrapped; None: they are not.
    `fill` is the style of what is left to the right.
    """

    pieces: tuple[Piece, ...]
    cells: int
    indent: int = 0
    glue: str | None = None
    fill: str = ""

    @property
    def text(self) -> str:
        """Its characters."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text; line ends in it are kept."""

    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1 to 6."""

    level: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Code:
    """Code: as it is written, and as it is coloured, a tuple of pieces a line. `index` counts blocks of a text."""

    language: str
    text: str
    lines: tuple[tuple[Piece, ...], ...]
    index: int


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a list. `mark` is what stands before it; `is_loose`: an empty line parts it from the one above."""

    mark: str
    blocks: tuple[Block, ...]
    is_loose: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    """A list. `is_continued`: entries above it belong to it, too."""

    items: tuple[Item, ...]
    is_continued: bool = False


@dataclass(frozen=True, slots=True)
class Quote:
    """What somebody else said."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; the first row is the head."""

    rows: tuple[tuple[tuple[Piece, ...], ...], ...]
    aligns: tuple[Align, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A line across."""


@dataclass(frozen=True, slots=True)
class Math:
    """A formula that stands alone."""

    text: str


Block = Paragraph | Heading | Code | Items | Quote | Table | Rule | Math


class CodeBlock(NamedTuple):
    """A fenced block of a text: the first word after its fence ("" where none is), and what is between."""

    language: str
    code: str
