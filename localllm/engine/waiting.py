"""WaitingQueue: who is next. Owns the order of sequences without a slot; pure, no clock.

Those sent back to wait come first: they have begun. Then by priority, and within one priority turn about between
clients, so that one who sends a hundred requests does not make another wait for all of them.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator

from localllm.engine.sequence import Sequence

_Rank = tuple[int, int, int]


class WaitingQueue:
    """Sequences in the order in which they get slots."""

    def __init__(self) -> None:
        self._resumed: list[Sequence] = []
        self._ranked: list[tuple[_Rank, Sequence]] = []
        # A client's turns are numbered on from the last one that was served: who was away comes in at the present turn.
        self._turn = 0
        self._last_turns: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._resumed) + len(self._ranked)

    def __iter__(self) -> Iterator[Sequence]:
        yield from self._resumed
        for _, sequence in self._ranked:
            yield sequence

    def push(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        turn = max(self._turn, self._last_turns.get(sequence.client, 0)) + 1
        self._last_turns[sequence.client] = turn
        rank = (-sequence.priority, turn, sequence.order)
        bisect.insort(self._ranked, (rank, sequence), key=lambda entry: entry[0])

    def promote(self, sequence: Sequence) -> None:
        """Put a sequence before all others that have not begun; one that does not wait here stays where it is."""
        entry = next((entry for entry in self._ranked if entry[1] is sequence), None)
        if entry is None:
            return
        first = self._ranked[0][0][0] - 1
        self._ranked.remove(entry)
        self._ranked.insert(0, ((first, self._turn, sequence.order), sequence))

    def push_back(self, sequence: Sequence) -> None:
        """Queue a sequence again that had begun: before all that have not."""
        bisect.insort(self._resumed, sequence, key=lambda resumed: resumed.rank)

    def take(self, chosen: Iterable[Sequence]) -> None:
        """Remove sequences that got their slots; turns go on from theirs."""
        taken = set(chosen)
        for (_, turn, _), sequence in self._ranked:
            if sequence in taken:
                self._turn = max(self._turn, turn)
        self._discard(taken)
        self._last_turns = {client: turn for client, turn in self._last_turns.items() if turn > self._turn}

    def remove(self, sequence: Sequence) -> None:
        """Remove a sequence that ends."""
        self._discard({sequence})

    def _discard(self, gone: set[Sequence]) -> None:
        self._resumed = [sequence for sequence in self._resumed if sequence not in gone]
        self._ranked = [entry for entry in self._ranked if entry[1] not in gone]
