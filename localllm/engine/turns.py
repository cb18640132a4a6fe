"""Turns: sequences of different groups never share a step, so groups take turns. Pure; integers, no clock.

Adapters hold for a whole step, and a deterministic request wants the step for itself: each makes a group.
"""

from __future__ import annotations

# A group goes on for about this long before the next one: changing adapters costs, and so does waiting.
TURN_US = 100_000


class Turns:
    """Whose turn it is."""

    def __init__(self, turn_us: int = TURN_US) -> None:
        self._turn_us = turn_us
        self._group = ""
        self._spent_us = 0

    def next(self, groups: list[str]) -> str:
        """The group of the next step, of those that have work, given in the order in which they came."""
        if not groups:
            return self._group
        if self._group in groups:
            if self._spent_us < self._turn_us or len(groups) == 1:
                return self._group
            following = groups[(groups.index(self._group) + 1) % len(groups)]
        else:
            following = groups[0]
        self._group = following
        self._spent_us = 0
        return following

    def spent(self, step_us: int) -> None:
        """Count a step's time to the group whose turn it is."""
        self._spent_us += step_us
