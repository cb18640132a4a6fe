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

from localllm.engine.batch import Copy, Mark, Op, Restore, Rewind, Save, Trim
from localllm.engine.cells import CellLedger
from localllm.engine.checkpoints import Checkpoint, StateCost, StateKind, places
from localllm.engine.disk_index import PRIVATE
from localllm.engine.prefix_search import MIN_MOVE, Coming, PrefixSearch, Slot, Source
from localllm.engine.prefix_tree import PrefixTree
from localllm.engine.saved_prefixes import Arriving, SavedPrefixes
from localllm.engine.snapshots import Snapshot

__all__ = ["GROWTH", "MIN_MOVE", "NO_COST", "Coming", "KVCache", "Layout", "Placement"]

Layout = Literal["streams", "unified"]

NO_COST = StateCost()

# Cells of the unified pool that stay free for each busy slot when another sequence is let in.
GROWTH = 16


@dataclass(frozen=True, slots=True)
class Placement:
    """A slot for a sequence, of whose tokens the first `num_cached` are there already."""

    slot: int
    num_cached: int


class KVCache:
    """Slots, their cells and the prefixes they hold.

    Methods that take `ops` append what has to be carried out, in order, for the account to be true.

    `kind` says what can be cut back to a shorter prefix; where something cannot, prompts get checkpoints, also where
    their `turn_tokens` are. `max_cut` tokens of a running sequence may be taken back right after they were computed
    even where `kind` says nothing can. `host_tokens`, `cost` and `use_disk`: see SavedPrefixes.
    """

    def __init__(
        self,
        num_slots: int,
        num_cells: int,
        layout: Layout,
        *,
        kind: StateKind = "plain",
        turn_tokens: frozenset[int] = frozenset(),
        host_tokens: int = 0,
        cost: StateCost = NO_COST,
        use_disk: bool = False,
        max_cut: int = 0,
    ) -> None:
        self.max_cut = max_cut
        self.layout: Layout = layout
        self.num_slots = num_slots
        self.num_cells = num_cells
        self.kind: StateKind = kind
        self._turn_tokens = turn_tokens
        self.max_length = num_cells if layout == "unified" else num_cells // num_slots
        self._slots = [Slot(i, []) for i in range(num_slots)]
        self._cells = CellLedger(num_slots)
        self._tree: PrefixTree[Slot] = PrefixTree()
        self.saved = SavedPrefixes(host_tokens, kind=kind, cost=cost, use_disk=use_disk, max_length=self.max_length)
        self._search = PrefixSearch(self._tree, self.saved, kind, in_streams=layout == "streams")
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
        source, coming = self._search.find(tokens, scope)
        if coming is not None and coming.num_tokens - source.num_tokens >= MIN_MOVE:
            self._mark_at(self._slots[coming.slot], coming.num_tokens)
            return coming
        arriving = self.saved.fetch(tokens[:-1], source.num_tokens, scope, self._tick, ops) if fetch else None
        if arriving is not None:
            return arriving
        target = self._choose_slot(source)
        if target is None:
            return None
        if target is not source.holder and source.num_tokens < MIN_MOVE:
            source = Source()
        holder, num_cached = source.holder, source.num_tokens
        num_new = len(tokens) - (num_cached if isinstance(holder, Slot) else 0)
        num_new += GROWTH * sum(slot.busy for slot in self._slots)
        if isinstance(holder, Snapshot):
            # All of it is restored before the rest is cut off.
            num_new = max(num_new, len(holder.tokens))
        self._take_over(target, source, ops)
        if not self._make_room(num_new, {holder, target}, ops):
            if not isinstance(holder, Slot) or holder.busy or target is holder:
                self.saved.move_drops(ops)
                return None
            # Keeping the source whole takes too many cells: let it become the target.
            target = holder
            self._take_over(target, source, ops)
            if not self._make_room(num_new, {holder}, ops):
                self.saved.move_drops(ops)
                return None
        if target is not holder:
            self._fill(target, source, ops)
        target.busy = True
        target.num_computed = num_cached
        target.tokens = tokens
        target.scope = scope
        target.last_used = self._tick
        target.places = [] if scope.startswith(PRIVATE) else self._places(tokens, num_cached)
        for used in (holder, source.checkpoint):
            if used is not None:
                used.last_used = self._tick
        self._cells.append(target.index, len(tokens) - num_cached)
        self._tree.insert(tokens, target, scope)
        # Only now: the state that was restored may be among those that had to go.
        self.saved.move_drops(ops)
        return Placement(target.index, num_cached)

    def reserve(self, slot: int, num_tokens: int, ops: list[Op]) -> bool:
        """Make sure that a busy slot has cells for `num_tokens` in all. False: there are none."""
        missing = num_tokens - self._cells.length(slot)
        if missing <= 0:
            return True
        if num_tokens > self.max_length:
            return False
        fits = self._make_room(missing, set(), ops)
        self.saved.move_drops(ops)
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

    def computed(self, slot: int, num_computed: int, ops: list[Op]) -> None:
        """Record how many tokens of a busy slot are in its cells."""
        held = self._slots[slot]
        held.num_computed = num_computed
        while held.places and held.places[0] <= num_computed:
            if held.places.pop(0) == num_computed:
                key = self.saved.checkpoints.keep(held.tokens[:num_computed], self._tick, held.scope)
                self.saved.move_drops(ops)
                if key is not None:
                    ops.append(Mark(slot, key))

    def until_checkpoint(self, slot: int) -> int:
        """How many tokens of a busy slot may be computed until a checkpoint is due."""
        held = self._slots[slot]
        return held.places[0] - held.num_computed if held.places else self.max_length

    def cut(self, slot: int, num_computed: int, ops: list[Op]) -> None:
        """Keep the first `num_computed` tokens of a busy slot: what follows was computed and proved wrong."""
        if ops and isinstance(ops[-1], Trim) and ops[-1].slot == slot:
            # Where little can be taken back, it can be once.
            ops.pop()
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
        held.places = []
        if self._cells.length(slot) > len(tokens):
            # Cells that were planned and never filled: only the account knows of them.
            self._cells.trim(slot, len(tokens))
        self._tree.insert(tokens, held, held.scope)
        if self.layout == "unified" and self.saved.host.max_tokens:
            self._evict(held, ops)
        self.saved.move_drops(ops)

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
        other.floor, other.places = held.num_computed if self.kind == "window" else 0, held.places
        held.tokens, held.num_computed, held.busy, held.floor, held.places = [], 0, False, 0, []
        self._tree.insert(other.tokens, other, other.scope)
        self._tree.remove(held)
        self.saved.move_drops(ops)

    def clear_idle(self, ops: list[Op]) -> bool:
        """Empty all idle slots. False: there was nothing in them."""
        idle = [slot for slot in self._slots if not slot.busy and slot.tokens]
        for slot in idle:
            self._evict(slot, ops)
        self.saved.move_drops(ops)
        return bool(idle)

    def store_next(self, ops: list[Op]) -> bool:
        """Begin to write a prefix to disk. For moments when nothing runs: the state of a slot has to be read.

        False: there is none to write, or one is under way.
        """
        return self.saved.store_next([slot for slot in self._slots if not slot.busy and slot.tokens], ops)

    # --- what is there --------------------------------------------------------------------------------------------

    @property
    def can_trim(self) -> bool:
        """Can tokens of a running sequence be taken back?"""
        return self.kind in ("plain", "window") or self.max_cut > 0

    @property
    def num_free_cells(self) -> int:
        """Cells of the unified pool that nothing uses."""
        return self.num_cells - self._cells.num_used

    def _places(self, tokens: list[int], num_cached: int) -> list[int]:
        """Where checkpoints of a prompt are due."""
        if self.kind == "plain" or self.saved.checkpoints.max_count == 0:
            return []
        return places(tokens, num_cached, self._turn_tokens)

    def _mark_at(self, slot: Slot, place: int) -> None:
        """Let a busy slot have a checkpoint where another sequence parts from it, which may not find a slot in time."""
        if self.saved.checkpoints.max_count and self.kind != "plain" and place > slot.num_computed:
            slot.places = sorted({*slot.places, place})

    def _choose_slot(self, source: Source) -> Slot | None:
        holder, num_cached = source.holder, source.num_tokens
        idle = [slot for slot in self._slots if not slot.busy]
        if not idle:
            return None
        if isinstance(holder, Slot) and not holder.busy:
            # Taking over loses the rest of what the slot holds: fine while that is the smaller part.
            others = [slot for slot in idle if slot is not holder]
            takes_part = self.kind == "window" and MIN_MOVE <= num_cached < holder.num_computed
            if len(holder.tokens) - num_cached <= max(num_cached, MIN_MOVE) or not others or takes_part:
                return holder
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

    def _take_over(self, target: Slot, source: Source, ops: list[Op]) -> None:
        """Leave in an idle slot what it gives itself."""
        if target is source.holder:
            self._clear(target, source.num_tokens, ops, source.checkpoint)
        else:
            self._clear(target, 0, ops)

    def _clear(self, slot: Slot, num_tokens: int, ops: list[Op], checkpoint: Checkpoint | None = None) -> None:
        """Keep the first `num_tokens` of an idle slot, and in host memory all of it where that is worth it."""
        if len(slot.tokens) - num_tokens >= MIN_MOVE:
            self._save(slot, ops)
        if self._cells.length(slot.index) > num_tokens:
            if checkpoint is None:
                ops.append(Trim(slot.index, num_tokens))
            else:
                ops.append(Rewind(slot.index, checkpoint.key, num_tokens))
                slot.floor = num_tokens
            self._cells.trim(slot.index, num_tokens)
        slot.floor = min(slot.floor, num_tokens)
        if num_tokens < len(slot.tokens):
            slot.tokens = slot.tokens[:num_tokens]
            slot.num_computed = num_tokens
            self._tree.insert(slot.tokens, slot, slot.scope)

    def _fill(self, target: Slot, source: Source, ops: list[Op]) -> None:
        """Bring what `source` gives into an empty slot."""
        holder, num_tokens = source.holder, source.num_tokens
        if num_tokens == 0:
            return
        if isinstance(holder, Snapshot):
            ops.append(Restore(holder.key, target.index, len(holder.tokens) if source.checkpoint else num_tokens))
            target.floor = num_tokens if self.kind == "window" else 0
        elif holder is not None:
            ops.append(Copy(holder.index, target.index, holder.num_computed if source.checkpoint else num_tokens))
            target.floor = num_tokens if self.kind == "window" else 0
        if source.checkpoint is not None:
            ops.append(Rewind(target.index, source.checkpoint.key, num_tokens))
            target.floor = num_tokens
        if isinstance(holder, Slot) and self.layout == "unified":
            self._cells.share(holder.index, target.index, num_tokens)
        else:
            self._cells.append(target.index, num_tokens)

    def _save(self, slot: Slot, ops: list[Op]) -> None:
        """Keep what a slot holds in host memory, unless it is short or held elsewhere too."""
        if slot.num_computed < MIN_MOVE or any(self._serves_for(other, slot) for other in self._tree.others(slot)):
            return
        key = self.saved.host.keep(slot.tokens[: slot.num_computed], slot.last_used, slot.scope, settled=slot.settled)
        if key is not None:
            ops.append(Save(slot.index, key))

    def _serves_for(self, other: Slot, slot: Slot) -> bool:
        """Is all that `slot` holds in `other` too, and to be had from there?"""
        if self.kind == "plain":
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
