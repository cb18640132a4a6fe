"""Snapshots: prefixes whose state lies in host memory. Owns which there are and which goes first; moves no bytes."""

from __future__ import annotations

from dataclasses import dataclass

from localllm.engine.batch import Drop, Op
from localllm.engine.prefix_tree import PrefixTree


@dataclass(eq=False, slots=True)
class Snapshot:
    """A prefix in host memory."""

    key: int
    tokens: list[int]
    last_used: int
    scope: str


class Snapshots:
    """At most `max_tokens` tokens of prefixes; the least recently used go first.

    Without `can_trim` a prefix serves only whole, so that a longer one replaces none of its own prefixes.
    """

    def __init__(self, max_tokens: int, *, can_trim: bool) -> None:
        self.max_tokens = max_tokens
        self._can_trim = can_trim
        self._tree: PrefixTree[Snapshot] = PrefixTree()
        self._kept: dict[int, Snapshot] = {}
        self._num_tokens = 0
        self._next_key = 0
        self._drops: list[Op] = []

    def longest(self, tokens: list[int], scope: str) -> tuple[Snapshot | None, int]:
        """The snapshot that holds the most of `tokens`, and how many of them."""
        if self._can_trim:
            num_tokens, snapshot = self._tree.longest(tokens, scope)
            return snapshot, num_tokens
        num_tokens, snapshot = next(self._tree.prefixes(tokens, scope), (0, None))
        return snapshot, num_tokens

    def keep(self, tokens: list[int], last_used: int, scope: str) -> int | None:
        """Make a snapshot and return its key. None: one serves already, it is too long, or all others are newer."""
        if len(tokens) > self.max_tokens or self.longest(tokens, scope)[1] == len(tokens):
            return None
        if self._can_trim:
            for _, covered in list(self._tree.prefixes(tokens, scope)):
                self._drop(covered)
        while self._num_tokens + len(tokens) > self.max_tokens:
            oldest = min(self._kept.values(), key=lambda kept: kept.last_used)
            if oldest.last_used > last_used:
                return None
            self._drop(oldest)
        key, self._next_key = self._next_key, self._next_key + 1
        snapshot = self._kept[key] = Snapshot(key, tokens, last_used, scope)
        self._num_tokens += len(tokens)
        self._tree.insert(tokens, snapshot, scope)
        return key

    def move_drops(self, ops: list[Op]) -> None:
        """Append to `ops` the drops of what went since the last call."""
        ops.extend(self._drops)
        self._drops.clear()

    def check_integrity(self) -> None:
        """Assert that the counts are right."""
        assert sum(len(kept.tokens) for kept in self._kept.values()) == self._num_tokens <= self.max_tokens
        assert all(kept in self._tree for kept in self._kept.values())

    def _drop(self, snapshot: Snapshot) -> None:
        self._drops.append(Drop(snapshot.key))
        del self._kept[snapshot.key]
        self._num_tokens -= len(snapshot.tokens)
        self._tree.remove(snapshot)
