"""Room for one more model: how much memory there is, how a model is loaded into it, and who has to leave first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from localllm import pool_rules
from localllm.errors import OutOfMemoryError
from localllm.pool_entry import Entry, PlannedLoad


class Room:
    """The memory that models share. `budget_bytes` bounds all of them together, where it is set."""

    def __init__(self, available_bytes: Callable[[], int], budget_bytes: int | None) -> None:
        self.available_bytes = available_bytes
        self.budget_bytes = budget_bytes
        self._free_when_empty = 0

    def free(self, residents: Sequence[Entry]) -> int:
        """What a new model may take beside these; below 0 where they take too much already.

        To the system, files that are mapped are free memory; not so here, where they are somebody's weights.
        """
        available = self.available_bytes()
        if not residents:
            self._free_when_empty = available
        taken = sum(entry.needed_bytes for entry in residents)
        if self.budget_bytes is not None:
            return min(available, self.budget_bytes - taken)
        # Two lower bounds: other programs may have taken or given memory since, and not all weights are mapped.
        mapped = sum(entry.mapped_bytes for entry in residents)
        return min(available, max(self._free_when_empty - taken, available - mapped))

    async def choose(self, entry: Entry, residents: list[Entry]) -> tuple[PlannedLoad, list[Entry]]:
        """How to load `entry`, and who has to be gone before that. `residents` may change meanwhile.

        Raises what the plan raises: OutOfMemoryError where it would not fit with all gone that may go.
        """
        if not residents:
            return await _plan(entry, self.free(residents)), []
        present = [other.resident() for other in residents]
        free = self.free(residents)
        idle_bytes = pool_rules.leaving_bytes(present, busy_too=False)
        try:
            planned = await _plan(entry, free + pool_rules.leaving_bytes(present, busy_too=True))
        except OutOfMemoryError as exc:
            raise _with_pins(exc, residents) from exc
        if planned.needed_bytes > free + idle_bytes:
            with contextlib.suppress(OutOfMemoryError):
                beside = await _plan(entry, free + idle_bytes)
                if pool_rules.is_worth_it(beside.spec.num_ctx, planned.spec.num_ctx):
                    planned = beside
        # Time has passed: some may have gone or become busy.
        missing = planned.needed_bytes - self.free(residents)
        if missing <= 0:
            return planned, []
        leaving = [other for other in residents if other.leaving]
        staying = [other for other in residents if not other.leaving]
        missing -= sum(other.needed_bytes for other in leaving)
        names = pool_rules.who_leaves([other.resident() for other in staying], missing)
        return planned, leaving + [other for other in staying if other.name in names]


async def _plan(entry: Entry, available_bytes: int) -> PlannedLoad:
    """A plan reads headers from disk, so it is made in a thread."""
    return await asyncio.to_thread(entry.plan, max(0, available_bytes))


def _with_pins(error: OutOfMemoryError, residents: Sequence[Entry]) -> OutOfMemoryError:
    pinned = [entry.name for entry in residents if entry.pinned]
    if not pinned:
        return error
    hint = f"{', '.join(pinned)} stays because it is pinned; `localllm stop {pinned[0]}` ends it"
    return OutOfMemoryError(error.message, hint=hint, **error.facts)
