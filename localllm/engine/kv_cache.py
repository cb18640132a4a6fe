"""KVCache: which slot holds which prefix, and how many cells are left. Pure accounting; touches no memory of llama.cpp.

A *slot* is a llama.cpp sequence id. It is empty, busy (a running sequence) or idle (a prefix kept for later). Idle
prefixes may also lie in host memory and on disk. Two layouts:

* "streams": every slot has `num_cells // num_slots` cells of its own; sharing a prefix copies it.
* "unified": one pool of `num_cells`; sharing a prefix shares its cells, and attention walks all used cells, so idle
  prefixes leave the pool for host memory at once.

Prefixes of different *scopes* never match: a scope is text for all that decides keys and values besides the tokens
(adapters, how steps are shaped), and means the same in every process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from localllm.engine.batch import Copy, Op, Restore, Save, Trim
from localllm.engine.cells import CellLedger
from localllm.engine.prefix_tree import PrefixTree
from localllm.engine.saved_prefixes import Arriving, SavedPrefixes
from localllm.engine.snapshots import Snapshot

Layout = Literal["streams", "unified"]

# Below this many tokens, computing is cheaper than moving state about.
MIN_MOVE = 16

# Cells of the unified pool that stay free for each busy slot when another sequence is let in.
GROWTH = 16


@dataclass(eq=False, slots=True)
class Slot:
    """A sequence id of llama.cpp. `tokens` are planned; the first `num_computed` of them are in its cells."""

    index: int
    tokens: list[int]
    num_computed: int = 0
    busy: bool = False
    last_used: int = 0
    scope: str = ""
    settled: bool = False  # the disk needs none of it


@dataclass(frozen=True, slots=True)
class Placement:
    """A slot for a sequence, of whose tokens the first `num_cached` are there already."""

    slot: int
    num_cached: int


@dataclass(frozen=True, slots=True)
class Coming:
    """Busy slot `slot` is about to compute the first `num_tokens` of a sequence: waiting for them is cheaper."""

    slot: int
    num_tokens: int


class KVCache:
    """Slots, their cells and the prefixes they hold.

    Methods that take `ops` append what has to be carried out, in order, for the account to be true.

    `can_trim` is False for recurrent and hybrid models, whose state cannot be cut: there a prefix is reused only whole.
    `host_tokens` and `use_disk`: see SavedPrefixes.
    """

    def __init__(
        self,
        num_slots: int,
        num_cells: int,
        layout: Layout,
        *,
        can_trim: bool = True,
        host_tokens: int = 0,
        use_disk: bool = False,
    ) -> None:
        self.layout: Layout = layout
        self.num_slots = num_slots
        self.num_cells = num_cells
        self.can_trim = can_trim
        self.max_length = num_cells if layout == "unified" else num_cells // num_slots
        self._slots = [Slot(i, []) for i in range(num_slots)]
        self._cells = CellLedger(num_slots)
        self._tree: PrefixTree[Slot] = PrefixTree()
        self.saved = SavedPrefixes(host_tokens, whole=not can_trim, use_disk=use_disk, max_length=self.max_length)
        self._tick = 0

    # --- a sequence comes, grows and goes -------------------------------------------------------------------------

    def place(
        self, tokens: list[int], ops: list[Op], scope: str = "", *, fetch: bool = True
    ) -> Placement | Coming | Arriving | None:
        """Find a slot and cells for a sequence, reusing the longest prefix anyone has. None: no slot or no cells.

        In the unified pool every busy slot keeps some room to grow: who is let in should not be sent out at once.
        Without `fetch` nothing is read from disk: nobody should wait for it twice.
        """
        self._tick += 1
        source, num_cached, coming = self._longest_prefix(tokens, scope)
        if coming is not None and coming.num_tokens - num_cached >= MIN_MOVE:
            return coming
        arriving = self.saved.fetch(tokens[:-1], num_cached, scope, self._tick, ops) if fetch else None
        if arriving is not None:
            return arriving
        target = self._choose_slot(source, num_cached)
        if target is None:
            return None
        if target is not source and num_cached < MIN_MOVE:
            source, num_cached = None, 0
        num_new = len(tokens) - (num_cached if isinstance(source, Slot) else 0)
        num_new += GROWTH * sum(slot.busy for slot in self._slots)
        if isinstance(source, Snapshot):
            # All of it is restored before the rest is cut off.
            num_new = max(num_new, len(source.tokens))
        self._clear(target, num_cached if target is source else 0, ops)
        if not self._make_room(num_new, {source, target}, ops):
            if not isinstance(source, Slot) or source.busy or target is source:
                self.saved.host.move_drops(ops)
                return None
            # Keeping the source whole takes too many cells: let it become the target.
            target = source
            self._clear(target, num_cached, ops)
            if not self._make_room(num_new, {source}, ops):
                self.saved.host.move_drops(ops)
                return None
        if target is not source:
            self._fill(target, source, num_cached, ops)
        target.busy = True
        target.num_computed = num_cached
        target.tokens = tokens
        target.scope = scope
        target.last_used = self._tick
        if isinstance(source, Snapshot):
            source.last_used = self._tick
        self._cells.append(target.index, len(tokens) - num_cached)
        self._tree.insert(tokens, target, scope)
        # Only now: the state that was restored may be among those that had to go.
        self.saved.host.move_drops(ops)
        return Placement(target.index, num_cached)

    def reserve(self, slot: int, num_tokens: int, ops: list[Op]) -> bool:
        """Make sure that a busy slot has cells for `num_tokens` in all. False: there are none."""
        missing = num_tokens - self._cells.length(slot)
        if missing <= 0:
            return True
        if num_tokens > self.max_length:
            return False
        fits = self._make_room(missing, set(), ops)
        self.saved.host.move_drops(ops)
        if fits:
            self._cells.append(slot, missing)
        return fits

    def unreserve(self, slot: int, num_tokens: int) -> None:
        """Give back cells of a busy slot beyond `num_tokens`, which were reserved and never computed."""
        if self._cells.length(slot) > num_tokens:
            self._cells.trim(slot, num_tokens)

    def num_spare(self, slot: int) -> int:
        """Cells that a busy slot could have without anything else having to go."""
        if self.layout == "unified":
            return self.num_free_cells
        return self.max_length - self._cells.length(slot)

    def computed(self, slot: int, num_computed: int) -> None:
        """Record how many tokens of a busy slot are in its cells."""
        self._slots[slot].num_computed = num_computed

    def cut(self, slot: int, num_computed: int, ops: list[Op]) -> None:
        """Keep the first `num_computed` tokens of a busy slot: what follows was computed and proved wrong."""
        ops.append(Trim(slot, num_computed))
        self._cells.trim(slot, num_computed)

    def release(self, slot: int, tokens: list[int], ops: list[Op]) -> None:
        """End a busy slot that has computed the given tokens; they stay as a cached prefix."""
        self._tick += 1
        held = self._slots[slot]
        held.busy = False
        held.tokens = tokens
        held.num_computed = len(tokens)
        held.last_used = self._tick
        held.settled = False
        if self._cells.length(slot) > len(tokens):
            # Cells that were planned and never filled: only the account knows of them.
            self._cells.trim(slot, len(tokens))
        self._tree.insert(tokens, held, held.scope)
        if self.layout == "unified" and self.saved.host.max_tokens:
            self._evict(held, ops)
        self.saved.host.move_drops(ops)

    def relocate(self, slot: int, target: int, ops: list[Op]) -> None:
        """Move a busy slot's content to a slot that is not busy."""
        held, other = self._slots[slot], self._slots[target]
        assert held.busy
        assert not other.busy
        num_planned = self._cells.length(slot)
        self._evict(other, ops)
        if held.num_computed:
            ops.append(Copy(slot, target, held.num_computed))
            ops.append(Trim(slot, 0))
        self._cells.trim(slot, 0)
        self._cells.append(target, num_planned)
        other.tokens, other.num_computed, other.busy = held.tokens, held.num_computed, True
        other.last_used, other.scope = held.last_used, held.scope
        held.tokens, held.num_computed, held.busy = [], 0, False
        self._tree.insert(other.tokens, other, other.scope)
        self._tree.remove(held)
        self.saved.host.move_drops(ops)

    def clear_idle(self, ops: list[Op]) -> bool:
        """Empty all idle slots. False: there was nothing in them."""
        idle = [slot for slot in self._slots if not slot.busy and slot.tokens]
        for slot in idle:
            self._evict(slot, ops)
        self.saved.host.move_drops(ops)
        return bool(idle)

    def store_next(self, ops: list[Op]) -> bool:
        """Begin to write a prefix to disk. For moments when nothing runs: the state of a slot has to be read.

        False: there is none to write, or one is under way.
        """
        return self.saved.store_next([slot for slot in self._slots if not slot.busy and slot.tokens], ops)

    # --- what is there --------------------------------------------------------------------------------------------

    @property
    def num_free_cells(self) -> int:
        """Cells of the unified pool that nothing uses."""
        return self.num_cells - self._cells.num_used

    def _longest_prefix(self, tokens: list[int], scope: str) -> tuple[Slot | Snapshot | None, int, Coming | None]:
        """The best source, the tokens it can give now, and the most that a busy slot will be able to give.

        At least one token is always left to compute: its logits are wanted. Of equal slots an idle one is best: nothing
        to copy. Host memory has to give more than a slot, for it is copied and, in the unified pool, shares no cells.
        """
        best: Slot | None = None
        coming: Coming | None = None
        num_cached = 0
        limit = len(tokens) - 1
        for matching, holders in self._tree.match(tokens, scope):
            depth = min(matching, limit)
            if depth <= num_cached:
                break
            for holder in holders:
                usable = min(depth, holder.num_computed)
                if not self.can_trim and usable < holder.num_computed:
                    continue
                if usable > num_cached or (best is not None and usable == num_cached and best.busy > holder.busy):
                    best, num_cached = holder, usable
                if coming is None and holder.busy and self.can_trim:
                    coming = Coming(holder.index, depth)
        snapshot, num_saved = self.saved.host.longest(tokens[:limit], scope)
        if num_saved - num_cached >= MIN_MOVE:
            return snapshot, num_saved, coming
        return best, num_cached, coming

    def _choose_slot(self, source: Slot | Snapshot | None, num_cached: int) -> Slot | None:
        idle = [slot for slot in self._slots if not slot.busy]
        if not idle:
            return None
        if isinstance(source, Slot) and not source.busy:
            # Taking over loses the rest of what the slot holds: fine while that is the smaller part.
            others = [slot for slot in idle if slot is not source]
            if len(source.tokens) - num_cached <= max(num_cached, MIN_MOVE) or not others:
                return source
            idle = others
        empty = [slot for slot in idle if not slot.tokens]
        return empty[0] if empty else min(idle, key=lambda slot: slot.last_used)

    def _make_room(self, num_cells: int, keep: set[Slot | Snapshot | None], ops: list[Op]) -> bool:
        """Free cells of the unified pool by emptying idle slots, oldest first."""
        if self.layout == "streams":
            return True
        while self.num_free_cells < num_cells:
            idle = [slot for slot in self._slots if not slot.busy and slot.tokens and slot not in keep]
            if not idle:
                return False
            self._evict(min(idle, key=lambda slot: slot.last_used), ops)
        return True

    def _evict(self, slot: Slot, ops: list[Op]) -> None:
        self._clear(slot, 0, ops)

    def _clear(self, slot: Slot, num_tokens: int, ops: list[Op]) -> None:
        """Keep the first `num_tokens` of an idle slot, and in host memory all of it where that is worth it."""
        if len(slot.tokens) - num_tokens >= MIN_MOVE:
            self._save(slot, ops)
        if self._cells.length(slot.index) > num_tokens:
            ops.append(Trim(slot.index, num_tokens))
            self._cells.trim(slot.index, num_tokens)
        if num_tokens < len(slot.tokens):
            slot.tokens = slot.tokens[:num_tokens]
            slot.num_computed = num_tokens
            self._tree.insert(slot.tokens, slot, slot.scope)

    def _fill(self, target: Slot, source: Slot | Snapshot | None, num_cached: int, ops: list[Op]) -> None:
        """Bring the first `num_cached` tokens of `source` into an empty slot."""
        if source is None or num_cached == 0:
            return
        if isinstance(source, Snapshot):
            ops.append(Restore(source.key, target.index, num_cached))
            self._cells.append(target.index, num_cached)
            return
        ops.append(Copy(source.index, target.index, num_cached))
        if self.layout == "unified":
            self._cells.share(source.index, target.index, num_cached)
        else:
            self._cells.append(target.index, num_cached)

    def _save(self, slot: Slot, ops: list[Op]) -> None:
        """Keep what a slot holds in host memory, unless it is short or held elsewhere too."""
        if slot.num_computed < MIN_MOVE or any(self._serves_for(other, slot) for other in self._tree.others(slot)):
            return
        key = self.saved.host.keep(slot.tokens[: slot.num_computed], slot.last_used, slot.scope, settled=slot.settled)
        if key is not None:
            ops.append(Save(slot.index, key))

    def _serves_for(self, other: Slot, slot: Slot) -> bool:
        """Is all that `slot` holds in `other` too, and to be had from there?"""
        if self.can_trim:
            return other.num_computed >= slot.num_computed
        return not other.busy and other.num_computed == slot.num_computed

    # --- self-check -----------------------------------------------------------------------------------------------

    def check_integrity(self) -> None:
        """Assert what must hold between any two steps; tests call it after each."""
        assert self._cells.num_used >= 0
        assert self.layout == "streams" or self._cells.num_used <= self.num_cells
        for slot in self._slots:
            assert slot.num_computed <= len(slot.tokens) or slot.busy
            assert self._cells.length(slot.index) <= self.max_length
            assert (slot in self._tree) == bool(slot.tokens), slot
            assert slot.busy or self._cells.length(slot.index) == len(slot.tokens)
        self.saved.check_integrity()
