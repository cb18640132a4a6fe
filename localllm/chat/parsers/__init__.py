"""Model output to answer and reasoning. One file per format, each a streaming parser that is linear in its input.

A parser sees text deltas and cuts them into pieces; it knows no tokens, sampling or wire types. Tool-call formats get
their files here too, and a third kind of piece.
"""

from __future__ import annotations

from typing import Literal, Protocol

Piece = tuple[Literal["text", "reasoning"], str]


class OutputParser(Protocol):
    """Cuts one answer's text into pieces, as it arrives."""

    @property
    def wants_special(self) -> frozenset[str]:
        """Control tokens (by text) that the parser must see; all others render as nothing."""
        ...

    @property
    def in_reasoning(self) -> bool:
        """Whether what arrives next is, so far as known, reasoning (for counting reasoning tokens)."""
        ...

    def feed(self, text: str) -> list[Piece]:
        """The pieces that `text` completes; a possible part of a tag is held back."""
        ...

    def flush(self) -> list[Piece]:
        """What was still held back, at the end of the output."""
        ...


def parser_for(reasoning_format: str, *, starts_in_reasoning: bool = False) -> OutputParser:
    """A fresh parser for one answer. `starts_in_reasoning`: the prompt already opened the reasoning."""
    raise NotImplementedError
