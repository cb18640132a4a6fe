"""Reasoning before a bound answer: free text up to the tag that ends it. Owns when the grammar begins.

Three stages. At the start the model may open its reasoning (where that is one special token) or begin the answer. While
it thinks, everything goes but the end of the answer. After the closing tag line ends may come, then the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from localllm.engine.vocab import Vocab
from localllm.text.parsers import ReasoningFormat

Stage = Literal["start", "thinking", "after", "over"]

_MAX_LINE_ENDS = 4


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How a model thinks before it answers. `closing` is the text that ends the thinking, `opener` what begins it."""

    vocab: Vocab
    opener: int | None
    closing: bytes
    line_ends: tuple[int, ...]
    all_but_ends: npt.NDArray[np.uint8]
    is_open: bool

    def begin(self) -> Thoughts:
        """The reasoning of one answer."""
        return Thoughts(self)


def reasoning_of(
    vocab: Vocab, form: ReasoningFormat, opener: list[int], line_ends: list[list[int]], *, is_open: bool
) -> Reasoning | None:
    """The reasoning before an answer of this format; None where the answer begins at once.

    `opener`: the ids of the tag that begins it. `line_ends`: the ids of "\\n" and the like. `is_open`: the prompt ends
    inside the reasoning.
    """
    special = {token.id for token in vocab.special_tokens}
    first = opener[0] if opener and opener[0] in special and not vocab.ends(opener[0]) else None
    if not form.end or (first is None and not is_open):
        return None
    allowed = np.ones(32 * ((vocab.num_tokens + 31) // 32), np.uint8)
    allowed[list(vocab.end_tokens)] = 0
    return Reasoning(
        vocab=vocab,
        opener=first,
        closing=(form.answer or form.end).encode(),
        line_ends=tuple(ids[0] for ids in line_ends if len(ids) == 1),
        all_but_ends=np.packbits(allowed, bitorder="little"),
        is_open=is_open,
    )


class Thoughts:
    """Follows one answer's reasoning, token by token."""

    def __init__(self, reasoning: Reasoning) -> None:
        self._reasoning = reasoning
        self._stage: Stage = "thinking" if reasoning.is_open else "start"
        self._tail = b""
        self._num_line_ends = 0

    @property
    def over(self) -> bool:
        """Whether every token now belongs to the answer."""
        return self._stage == "over"

    @property
    def free(self) -> bool:
        """Whether the grammar does not matter yet."""
        return self._stage == "thinking"

    @property
    def all_but_ends(self) -> npt.NDArray[np.uint8]:
        """Bits of the tokens that may be thought: all that do not end the answer."""
        return self._reasoning.all_but_ends

    def offer(self, bits: npt.NDArray[np.uint8]) -> None:
        """Add to the tokens that may begin the answer those that may come before it."""
        for token in self._extras():
            bits[token >> 3] |= 1 << (token & 7)

    def take(self, token: int, native: Any) -> list[int]:
        """Take a token; returns what of it belongs to the answer already. `native` tells which may begin the answer."""
        if self._stage == "thinking":
            return self._think(token)
        if token in self._extras() and not native.validate_tokens([token]):
            if self._stage == "start":
                self._stage = "thinking"
                return self._think(token)
            self._num_line_ends += 1
            return []
        self._stage = "over"
        return [token]

    def _extras(self) -> tuple[int, ...]:
        opener = self._reasoning.opener
        if self._stage == "start":
            return () if opener is None else (opener,)
        return self._reasoning.line_ends if self._stage == "after" and self._num_line_ends < _MAX_LINE_ENDS else ()

    def _think(self, token: int) -> list[int]:
        closing = self._reasoning.closing
        self._tail += self._reasoning.vocab.piece(token, special=True)
        at = self._tail.find(closing)
        if at < 0:
            self._tail = self._tail[-len(closing) :]
            return []
        self._stage = "after"
        rest = self._tail[at + len(closing) :].decode("utf-8", "replace").lstrip()
        if not rest:
            return []
        self._stage = "over"
        return self._reasoning.vocab.tokenize(rest)
