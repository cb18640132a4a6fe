"""Snapshots: prefixes whose state lies in host memory. Owns which there are and which goes first; moves no bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from localllm.engine.batch import Drop, Op
from localllm.engine.prefix_tree import PrefixTree


@dataclass(eq=False, slots=True)
class Snapshot:
    """A prefix in host memory. `arriving`: it is still being read from disk; `settled`: the disk needs none of it."""

    key: int
    tokens: list[int]
    last_used: int
    scope: str
    arriving: bool = False
    settled: bool = False


class Snapshots:
    """At most `max_tokens` tokens of prefixes, each with `overhead` on top; the least recently used go first.

    `whole`: a state serves only as a whole, so that a longer one replaces none of its own prefixes.
    `rescue` is asked for an operation that saves elsewhere what has to go.
    """

    def __init__(
        self, max_tokens: int, *, whole: bool, rescue: Callable[[Snapshot], Op | None], overhead: int = 0
    ) -> None:
        self.max_tokens = max_tokens
        self._overhead = overhead
        self._whole = whole
        self._rescue = rescue
        self._tree: PrefixTree[Snapshot] = PrefixTree()
        self._kept: dict[int, Snapshot] = {}
        self._num_tokens = 0
        self._next_key = 0
        self._drops: list[Op] = []

    def longest(self, tokens: list[int], scope: str) -> tuple[Snapshot | None, int]:
        """The snapshot that holds the most of `tokens`, and how many of them."""
        if self._whole:
            num_tokens, snapshot = next(self._tree.prefixes(tokens, scope), (0, None))
        else:
            num_tokens, snapshot = self._tree.longest(tokens, scope)
        return snapshot, num_tokens

    def holding(self, tokens: list[int], scope: str) -> tuple[Snapshot | None, int]:
        """A snapshot in which the most of `tokens` lie, whether or not it can serve them, and how many."""
        num_tokens, snapshot = self._tree.longest(tokens, scope)
        return snapshot, num_tokens

    def keep(self, tokens: list[int], last_used: int, scope: str, *, settled: bool = False) -> int | None:
        """Make a snapshot and return its key. None: one serves already, it is too long, or all others are newer."""
        if self._size(tokens) > self.max_tokens or self.longest(tokens, scope)[1] == len(tokens):
            return None
        if not self._whole:
            for _, covered in list(self._tree.prefixes(tokens, scope)):
                self._drop(covered)
        if not self._make_room(self._size(tokens), last_used):
            return None
        snapshot = self._add(tokens, last_used, scope)
        snapshot.settled = settled
        self._tree.insert(tokens, snapshot, scope)
        return snapshot.key

    def expect(self, tokens: list[int], last_used: int, scope: str) -> int | None:
        """Set room aside for a prefix that is being read from disk; returns its key. None: there is no room."""
        if self._size(tokens) > self.max_tokens or not self._make_room(self._size(tokens), last_used):
            return None
        snapshot = self._add(tokens, last_used, scope)
        snapshot.arriving = snapshot.settled = True
        return snapshot.key

    def arrived(self, key: int, ok: bool) -> None:
        """What was expected is there, or will never be."""
        snapshot = self._kept[key]
        assert snapshot.arriving
        if ok:
            snapshot.arriving = False
            self._tree.insert(snapshot.tokens, snapshot, snapshot.scope)
        else:
            del self._kept[key]
            self._num_tokens -= self._size(snapshot.tokens)

    def is_arriving(self, key: int) -> bool:
        """Is `key` still being read?"""
        return key in self._kept and self._kept[key].arriving

    def unsettled(self) -> list[Snapshot]:
        """Those that may be worth writing to disk."""
        return [snapshot for snapshot in self._kept.values() if not snapshot.settled]

    def move_drops(self, ops: list[Op]) -> None:
        """Append to `ops` the drops of what went since the last call."""
        ops.extend(self._drops)
        self._drops.clear()

    def check_integrity(self) -> None:
        """Assert that the counts are right."""
        assert sum(self._size(kept.tokens) for kept in self._kept.values()) == self._num_tokens <= self.max_tokens
        assert all((kept in self._tree) != kept.arriving for kept in self._kept.values())

    def _make_room(self, num_tokens: int, last_used: int) -> bool:
        while self._num_tokens + num_tokens > self.max_tokens:
            here = [kept for kept in self._kept.values() if not kept.arriving]
            oldest = min(here, key=lambda kept: kept.last_used, default=None)
            if oldest is None or oldest.last_used > last_used:
                return False
            rescue = self._rescue(oldest)
            if rescue is not None:
                self._drops.append(rescue)
            self._drop(oldest)
        return True

    def _add(self, tokens: list[int], last_used: int, scope: str) -> Snapshot:
        key, self._next_key = self._next_key, self._next_key + 1
        snapshot = self._kept[key] = Snapshot(key, tokens, last_used, scope)
        self._num_tokens += self._size(tokens)
        return snapshot

    def _size(self, tokens: list[int]) -> int:
        return len(tokens) + self._overhead

    def _drop(self, snapshot: Snapshot) -> None:
        self._drops.append(Drop(snapshot.key))
        del self._kept[snapshot.key]
        self._num_tokens -= self._size(snapshot.tokens)
        self._tree.remove(snapshot)
