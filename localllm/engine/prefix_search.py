"""Where the longest prefix of a prompt can be had from: slots, saved states, checkpoints. Pure; changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from localllm.engine.checkpoints import Checkpoint, StateKind
from localllm.engine.prefix_tree import PrefixTree
from localllm.engine.saved_prefixes import SavedPrefixes
from localllm.engine.snapshots import Snapshot

# Below this many tokens, computing is cheaper than moving state about.
MIN_MOVE = 16


@dataclass(eq=False, slots=True)
class Slot:
    """A sequence id of llama.cpp. `tokens` are planned; the first `num_computed` of them are in its cells.

    Its cells can be cut back to `floor` tokens, or to none. `places` are where checkpoints are due, ascending.
    """

    index: int
    tokens: list[int]
    num_computed: int = 0
    busy: bool = False
    last_used: int = 0
    scope: str = ""
    settled: bool = False  # the disk needs none of it
    floor: int = 0
    places: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Coming:
    """Busy slot `slot` is about to compute the first `num_tokens` of a sequence: waiting for them is cheaper."""

    slot: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Source:
    """Who can give the first `num_tokens` of a prompt: a slot or saved state, put back to a checkpoint where named."""

    holder: Slot | Snapshot | None = None
    num_tokens: int = 0
    checkpoint: Checkpoint | None = None


class PrefixSearch:
    """Looks through slots (by the tokens they hold) and saved states."""

    def __init__(self, tree: PrefixTree[Slot], saved: SavedPrefixes, kind: StateKind, *, in_streams: bool) -> None:
        self._tree = tree
        self._saved = saved
        self._kind: StateKind = kind
        self._in_streams = in_streams

    def find(self, tokens: list[int], scope: str) -> tuple[Source, Coming | None]:
        """The best source, and the most that a busy slot will be able to give.

        At least one token is always left to compute: its logits are wanted. Of equal slots an idle one is best: nothing
        to copy. Host memory has to give more than a slot, for it is copied and, in the unified pool, shares no cells.
        """
        limit = len(tokens) - 1
        source, coming = self._in_slots(tokens, scope)
        snapshot, num_saved = self._saved.host.longest(tokens[:limit], scope)
        if num_saved - source.num_tokens >= MIN_MOVE:
            source = Source(snapshot, num_saved)
        for checkpoint in self._saved.checkpoints.within(tokens[:limit], scope):
            if len(checkpoint.tokens) - source.num_tokens < MIN_MOVE:
                break
            for holder in self._holders(checkpoint):
                return Source(holder, len(checkpoint.tokens), checkpoint), coming
        return source, coming

    def usable(self, slot: Slot, depth: int) -> int:
        """How many of its first `depth` tokens a slot can give now: it has them, and can be cut there."""
        num_tokens = min(depth, slot.num_computed)
        return num_tokens if num_tokens >= self._floor(slot) else 0

    def _floor(self, slot: Slot) -> int:
        """How short a slot's content can be made.

        In the pool llama.cpp uses cells of tokens that are out of the window for others. A stream keeps them, but is
        copied as a saved state, which lacks them.
        """
        if self._kind == "plain" or (self._kind == "window" and self._in_streams and not slot.busy):
            return slot.floor
        return slot.num_computed

    def _in_slots(self, tokens: list[int], scope: str) -> tuple[Source, Coming | None]:
        best: Slot | None = None
        coming: Coming | None = None
        num_cached = 0
        for matching, holders in self._tree.match(tokens, scope):
            depth = min(matching, len(tokens) - 1)
            if depth <= num_cached:
                break
            for holder in holders:
                usable = self.usable(holder, depth)
                if usable > num_cached or (best is not None and usable == num_cached and best.busy > holder.busy):
                    best, num_cached = holder, usable
                # One that cannot be cut gives its state as it passes by.
                is_ahead = holder.num_computed <= depth or usable == depth
                if coming is None and holder.busy and is_ahead:
                    coming = Coming(holder.index, depth)
        return Source(best, num_cached), coming

    def _holders(self, checkpoint: Checkpoint) -> Iterator[Slot | Snapshot | None]:
        """Who has what a checkpoint lacks: the keys and values of all its tokens."""
        if self._kind == "recurrent":
            yield None
            return
        num_tokens = len(checkpoint.tokens)
        if self._kind == "hybrid":
            for matching, holders in self._tree.match(checkpoint.tokens, checkpoint.scope):
                able = [slot for slot in holders if matching == num_tokens <= slot.num_computed]
                yield from sorted(able, key=lambda slot: slot.busy)
        # A window put back into a slot would take cells there that the account does not know of.
        snapshot, matching = self._saved.host.holding(checkpoint.tokens, checkpoint.scope)
        if snapshot is not None and matching == num_tokens:
            yield snapshot
