"""NgramIndex: where a run of tokens stood before, in one text or in many. Bounded memory; knows no request.

Every run of three tokens leads to its latest place, and from there to the places before it; of these the one is taken
that agrees with what came before for longest. A token costs the same to add however many there are.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

# Tokens of a run. Fewer match everywhere, more find nothing after a small change.
SIZE = 3

# A match longer than this is as good as any.
MAX_MATCH = 32

_MAX_PLACES = 8
_BITS = 21  # of a token id in a key of three; larger ids only make keys that clash, and a match is compared in full
_MASK = (1 << _BITS * SIZE) - 1
_BREAK = -1


class NgramIndex:
    """The last `capacity` tokens, and a way to where the same three stood.

    A position counts all tokens ever added; those that fell out are found no more.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._tokens = array("i")
        self._keys = array("q")
        self._before = array("q")
        self._latest: dict[int, int] = {}
        self._key = 0
        self._run = 0
        self.num_added = 0

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        """Add tokens that follow those added last."""
        latest, key, run = self._latest, self._key, self._run
        for token in tokens:
            run += 1
            key = (key << _BITS | token) & _MASK
            if run < SIZE:
                self._append(token, -1, -1)
            else:
                before = latest.get(key, -1)
                latest[key] = self.num_added
                self._append(token, key, before)
        self._key, self._run = key, run

    def end_text(self) -> None:
        """What is added next belongs to another text: no run goes across."""
        if self._run:
            self._append(_BREAK, -1, -1)
        self._key = self._run = 0

    def longest(self, tail: Sequence[int], *, own: bool = False) -> tuple[int, int]:
        """The place after the longest run that ends like `tail`, and how many tokens agree (0: there is none).

        `own`: `tail` ends with what was added last, so its own place does not count.
        """
        if len(tail) < SIZE:
            return -1, 0
        if own:
            place = self._before[(self.num_added - 1) % self._capacity] if self._run >= SIZE else -1
        else:
            key = 0
            for token in tail[-SIZE:]:
                key = key << _BITS | token
            place = self._latest.get(key & _MASK, -1)
        best, length = -1, 0
        oldest = self.num_added - len(self._tokens)
        for _ in range(_MAX_PLACES):
            if place < oldest or place < 0:
                break
            agreeing = self._agreeing(tail, place, oldest)
            if agreeing > length:
                best, length = place + 1, agreeing
                if length == MAX_MATCH:
                    break
            place = self._before[place % self._capacity]
        return (best, length) if length >= SIZE else (-1, 0)

    def read(self, position: int, count: int) -> list[int]:
        """Up to `count` tokens from `position` on, to the end of their text."""
        if position < self.num_added - len(self._tokens):
            return []
        end = min(position + count, self.num_added)
        found = [self._tokens[at % self._capacity] for at in range(position, end)]
        return found[: found.index(_BREAK)] if _BREAK in found else found

    def _agreeing(self, tail: Sequence[int], place: int, oldest: int) -> int:
        tokens, capacity = self._tokens, self._capacity
        most = min(MAX_MATCH, len(tail), place - oldest + 1)
        for count in range(most):
            if tokens[(place - count) % capacity] != tail[-1 - count]:
                return count
        return most

    def _append(self, token: int, key: int, before: int) -> None:
        at = self.num_added % self._capacity
        if len(self._tokens) < self._capacity:
            self._tokens.append(token)
            self._keys.append(key)
            self._before.append(before)
        else:
            old = self._keys[at]
            if old >= 0 and self._latest.get(old) == self.num_added - self._capacity:
                del self._latest[old]
            self._tokens[at], self._keys[at], self._before[at] = token, key, before
        self.num_added += 1
