"""SavedPrefixes: prefixes outside the cells, in host memory and on disk, and how they go from one to the other.

Pure accounting. States are written to disk when nothing runs or when host memory needs their room; they are read into
host memory, and whoever wants one waits for that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from localllm.engine.batch import DiskNews, Fetch, Fetched, Lost, Op, Store, Stored, Written
from localllm.engine.checkpoints import Checkpoints, StateCost, StateKind
from localllm.engine.disk_index import DiskIndex
from localllm.engine.snapshots import Snapshot, Snapshots


@dataclass(frozen=True, slots=True)
class Arriving:
    """A longer prefix is on its way from disk, as the saved state `key`: waiting for it is cheaper."""

    key: int


class Held(Protocol):
    """A slot with an idle prefix."""

    index: int
    tokens: list[int]
    last_used: int
    scope: str
    settled: bool


class SavedPrefixes:
    """At most `host_tokens` tokens in host memory (0: none), and with `use_disk` others on disk.

    `cost` says what states take besides their tokens. Where states serve only as a whole, a quarter of host memory is
    for checkpoints.
    """

    def __init__(self, host_tokens: int, *, kind: StateKind, cost: StateCost, use_disk: bool, max_length: int) -> None:
        whole = kind != "plain"
        for_checkpoints = host_tokens // 4 if whole and cost.checkpoint else 0
        self.checkpoints = Checkpoints(for_checkpoints // max(1, cost.checkpoint))
        self.host = Snapshots(host_tokens - for_checkpoints, whole=whole, overhead=cost.state, rescue=self._rescue)
        self.disk = DiskIndex(whole=whole)
        self._use_disk = use_disk
        self._max_length = max_length

    def found(self, stored: Stored) -> None:
        """Note a prefix that lies on disk from before; one that fits no slot is of no use."""
        if len(stored.tokens) <= self._max_length:
            self.disk.add(stored)

    def hear(self, news: DiskNews) -> None:
        """Take note of what became of a Fetch or a Store, or of a file."""
        match news:
            case Fetched(stored, key, ok):
                del self.disk.fetching[stored]
                self.host.arrived(key, ok)
                if not ok:
                    self.disk.remove(stored)
            case Written(stored, ok):
                self.disk.end(stored, ok)
            case Lost(stored):
                self.disk.remove(stored)

    @property
    def is_writing(self) -> bool:
        """Has a Store been begun whose end was not heard of?"""
        return self.disk.writing is not None

    def fetch(self, tokens: list[int], num_cached: int, scope: str, now: int, ops: list[Op]) -> Arriving | None:
        """Begin to read what the disk has of `tokens`, where that is more than `num_cached` by enough."""
        stored = self.disk.better(tokens, num_cached, scope)
        if stored is None:
            return None
        key = self.disk.fetching.get(stored)
        if key is None:
            key = self.host.expect(stored.tokens, now, scope)
            self.move_drops(ops)
            if key is None:
                return None
            self.disk.fetching[stored] = key
            ops.append(Fetch(stored, key))
        return Arriving(key)

    def store_next(self, idle: Iterable[Held], ops: list[Op]) -> bool:
        """Begin to write the prefix that was used last and is not on disk, of host memory and the `idle` slots.

        False: there is none, or one is under way.
        """
        if not self._use_disk or self.is_writing:
            return False
        found: list[Held | Snapshot] = [slot for slot in idle if not slot.settled]
        found += self.host.unsettled()
        for held in sorted(found, key=lambda held: held.last_used, reverse=True):
            held.settled = True
            if self.disk.lacks(held.tokens, held.scope):
                stored = self.disk.begin(held.tokens, held.scope)
                slot, key = (None, held.key) if isinstance(held, Snapshot) else (held.index, None)
                ops.append(Store(stored, slot, key, self.disk.replacing))
                return True
        return False

    def move_drops(self, ops: list[Op]) -> None:
        """Append to `ops` what has to be done for those that went since the last call."""
        self.host.move_drops(ops)
        self.checkpoints.move_drops(ops)

    def check_integrity(self) -> None:
        """Assert what must hold between any two steps."""
        self.checkpoints.check_integrity()
        self.host.check_integrity()
        assert all(self.host.is_arriving(key) for key in self.disk.fetching.values())

    def _rescue(self, snapshot: Snapshot) -> Op | None:
        """Write to disk what host memory has no more room for."""
        if not self._use_disk or snapshot.settled or self.is_writing:
            return None
        if not self.disk.lacks(snapshot.tokens, snapshot.scope):
            return None
        return Store(self.disk.begin(snapshot.tokens, snapshot.scope), None, snapshot.key, self.disk.replacing)
