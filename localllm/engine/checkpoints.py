"""Checkpoints: states taken in the middle of a prompt, for models whose state cannot be cut back. Pure accounting.

Such a model's answer, once begun, is in its state: the same prompt with another last turn would find nothing to go on
from. So states are kept at places where prompts are likely to part: where a turn begins, shortly before the end, and
every so many tokens. A checkpoint holds only what cannot be cut (a few layers' state); keys and values of all tokens
have to come from somewhere else, except with recurrent models, which have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from localllm.engine.batch import Drop, Op
from localllm.engine.prefix_tree import PrefixTree

# What can be cut back to a shorter prefix: "plain" everything; "window" cells but not saved states, which hold only the
# last tokens of sliding layers; "hybrid" and "recurrent" nothing.
StateKind = Literal["plain", "window", "hybrid", "recurrent"]

# A prompt asked again differs in nothing but its last tokens, which may merge with what follows.
TAIL = 4

# Checkpoints are this far apart, and a prompt has this many at even distances at most.
APART = 32
INTERVAL = 256
MAX_INTERVALS = 8

# Turns, counted from the end, that have a checkpoint before them.
NUM_TURNS = 3


@dataclass(frozen=True, slots=True)
class StateCost:
    """What a model's states take of host memory, counted in tokens' worth of it.

    `state`: of every saved state, besides its tokens. `checkpoint`: of each checkpoint; 0: none are made.
    """

    state: int = 0
    checkpoint: int = 0


@dataclass(eq=False, slots=True)
class Checkpoint:
    """The part of the state after `tokens` that cannot be cut. Keys are negative: others are of whole states."""

    key: int
    tokens: list[int]
    last_used: int
    scope: str


class Checkpoints:
    """At most `max_count` checkpoints; the least recently used go first."""

    def __init__(self, max_count: int) -> None:
        self.max_count = max_count
        self._tree: PrefixTree[Checkpoint] = PrefixTree()
        self._kept: dict[int, Checkpoint] = {}
        self._next_key = -1
        self._drops: list[Op] = []

    def within(self, tokens: list[int], scope: str) -> Iterator[Checkpoint]:
        """The checkpoints that `tokens` runs through, the last one first."""
        for _, checkpoint in self._tree.prefixes(tokens, scope):
            yield checkpoint

    def keep(self, tokens: list[int], now: int, scope: str) -> int | None:
        """Make a checkpoint after `tokens` and return its key. None: there is one, or none are made."""
        if self.max_count == 0:
            return None
        for checkpoint in self.within(tokens, scope):
            if len(checkpoint.tokens) == len(tokens):
                checkpoint.last_used = now
                return None
            break
        if len(self._kept) == self.max_count:
            self._drop(min(self._kept.values(), key=lambda kept: kept.last_used))
        key, self._next_key = self._next_key, self._next_key - 1
        checkpoint = self._kept[key] = Checkpoint(key, tokens, now, scope)
        self._tree.insert(tokens, checkpoint, scope)
        return key

    def move_drops(self, ops: list[Op]) -> None:
        """Append to `ops` the drops of what went since the last call."""
        ops.extend(self._drops)
        self._drops.clear()

    def check_integrity(self) -> None:
        """Assert that the counts are right."""
        assert len(self._kept) <= self.max_count
        assert all(kept in self._tree for kept in self._kept.values())

    def _drop(self, checkpoint: Checkpoint) -> None:
        self._drops.append(Drop(checkpoint.key))
        del self._kept[checkpoint.key]
        self._tree.remove(checkpoint)


def places(tokens: list[int], first: int, turn_tokens: frozenset[int]) -> list[int]:
    """Where a prompt, of which `first` tokens are there, is worth a checkpoint: counts of tokens, ascending.

    `turn_tokens` are the control tokens that chat templates put between turns.
    """
    interval = max(INTERVAL, -(-len(tokens) // MAX_INTERVALS))
    ends = [len(tokens) - TAIL, *_turns(tokens, first, turn_tokens)]
    found: list[int] = []
    # The beginnings of turns first: the others keep clear of them.
    for place in [*sorted(ends), *range(interval, len(tokens), interval)]:
        if place >= first + APART and all(abs(place - other) >= APART for other in found):
            found.append(place)
    return sorted(found)


def _turns(tokens: list[int], first: int, turn_tokens: frozenset[int]) -> list[int]:
    """The beginnings of the last turns: of each group of control tokens, where it starts."""
    starts: list[int] = []
    for at in range(len(tokens) - 1, first, -1):
        if tokens[at] in turn_tokens:
            if starts and starts[-1] - at < APART // 2:
                starts[-1] = at
            elif len(starts) == NUM_TURNS:
                break
            else:
                starts.append(at)
    return starts
