"""LlgMatcher: one answer's place in a grammar, over llguidance. Also knows the reasoning that may come before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from localllm.engine.grammar.reasoning import Reasoning, Thoughts


class LlgGrammar:
    """A compiled constraint. See constraint.Grammar."""

    def __init__(self, pristine: Any, num_tokens: int, reasoning: Reasoning | None) -> None:
        self._pristine = pristine
        self._num_tokens = num_tokens
        self._reasoning = reasoning

    def begin(self) -> LlgMatcher:
        """A matcher at the beginning."""
        thoughts = self._reasoning.begin() if self._reasoning is not None else None
        return LlgMatcher(self._pristine.deep_copy(), self._num_tokens, thoughts)


class LlgMatcher:
    """See constraint.Matcher.

    `prepare` leaves a row of bits for the next token and for that after each draft; `advance` moves on to the next row.
    """

    def __init__(self, native: Any, num_tokens: int, thoughts: Thoughts | None) -> None:
        self._native = native
        self._num_tokens = num_tokens
        self._num_bytes = 4 * ((num_tokens + 31) // 32)
        self._thoughts = thoughts
        self._rows: list[npt.NDArray[np.uint8]] = []
        self._drafts: list[int] = []
        self._row = 0
        self.failure: str | None = None

    @property
    def complete(self) -> bool:
        """See Matcher.complete."""
        return self._is_bound and bool(self._native.is_stopped()) and self.failure is None

    @property
    def _is_bound(self) -> bool:
        return self._thoughts is None or self._thoughts.over

    def prepare(self, drafts: Sequence[int]) -> None:
        """See Matcher.prepare."""
        self._rows = [self._bits()]
        self._drafts = []
        self._row = 0
        if not self._is_bound or self.failure is not None:
            return
        for draft in drafts:
            if not self._has(self._rows[-1], draft) or not self._native.try_consume_tokens([draft]):
                break
            self._drafts.append(draft)
            if self._native.is_stopped():
                break
            self._rows.append(self._bits())
        if self._drafts and not self._native.rollback(len(self._drafts)):
            self._fail()

    def allows(self, token: int) -> bool:
        """See Matcher.allows."""
        return self._has(self._current(), token)

    def allowed(self) -> npt.NDArray[np.bool_]:
        """See Matcher.allowed."""
        return np.unpackbits(self._current(), count=self._num_tokens, bitorder="little").view(np.bool_)

    def advance(self, token: int) -> None:
        """See Matcher.advance."""
        if self._row < len(self._drafts) and token == self._drafts[self._row]:
            self._row += 1
        else:
            self._forget()
        self._take(token)

    def accept(self, tokens: Iterable[int]) -> None:
        """See Matcher.accept."""
        self._forget()
        for token in tokens:
            self._take(token)

    def forced(self) -> list[int]:
        """See Matcher.forced."""
        if not self._is_bound or self.failure is not None or self._native.is_stopped():
            return []
        tokens: list[int] = self._native.compute_ff_tokens()
        if tokens and not self._native.consume_tokens(tokens):
            self._fail()
        if tokens:
            self._forget()
        return tokens

    def _forget(self) -> None:
        self._rows, self._drafts, self._row = [], [], 0

    def _take(self, token: int) -> None:
        thoughts = self._thoughts
        if thoughts is not None and not thoughts.over:
            rest = thoughts.take(token, self._native)
            if rest and not self._native.consume_tokens(rest):
                self._fail()
        elif not self._native.consume_token(token):
            self._fail()

    def _fail(self) -> None:
        self.failure = self._native.get_error() or "a token that the grammar does not allow"

    def _current(self) -> npt.NDArray[np.uint8]:
        if self._row >= len(self._rows):
            self.prepare(())
        return self._rows[self._row]

    def _bits(self) -> npt.NDArray[np.uint8]:
        thoughts = self._thoughts
        if thoughts is not None and thoughts.free:
            return thoughts.all_but_ends
        bits = np.empty(self._num_bytes, np.uint8)
        self._native.unsafe_compute_mask_ptr(bits.ctypes.data, self._num_bytes)
        if self._native.is_error():
            self._fail()
        if thoughts is not None and not thoughts.over:
            thoughts.offer(bits)
        return bits

    @staticmethod
    def _has(bits: npt.NDArray[np.uint8], token: int) -> bool:
        return bool(bits[token >> 3] >> (token & 7) & 1)
