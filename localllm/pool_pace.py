"""Pace: how long loads and requests of each model take of late, and so how long a model has to wait for its room.

Pure: the clock is the caller's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from localllm.api import Queued

_NEWEST_SHARE = 0.3


class Pace:
    """What was measured of models, by name."""

    def __init__(self) -> None:
        self._load_s: dict[str, float] = {}
        self._use_s: dict[str, float] = {}
        self._uses: dict[str, list[float]] = {}

    def loaded(self, name: str, seconds: float) -> None:
        """A load took so long."""
        self._load_s[name] = seconds

    def begin(self, name: str, now: float) -> None:
        """A loaded model is used once more from now on."""
        self._uses.setdefault(name, []).append(now)

    def end(self, name: str, began: float, now: float) -> None:
        """A use that began then is over."""
        with contextlib.suppress(KeyError, ValueError):
            self._uses[name].remove(began)
        before = self._use_s.get(name)
        share = 1.0 if before is None else _NEWEST_SHARE
        self._use_s[name] = (1.0 - share) * (before or 0.0) + share * (now - began)

    def place(self, name: str, leaving: Sequence[str], now: float) -> Queued:
        """Where a model stands that is loaded once those in `leaving` have ended what they run."""
        running = [(other, began) for other in leaving for began in self._uses.get(other, ())]
        return Queued(len(running), self._wait_s(name, running, now))

    def _wait_s(self, name: str, running: Sequence[tuple[str, float]], now: float) -> float | None:
        """Seconds until it is loaded. None: something of that was never measured."""
        load_s = self._load_s.get(name)
        if load_s is None or any(other not in self._use_s for other, _began in running):
            return None
        left = [max(0.0, began + self._use_s[other] - now) for other, began in running]
        return load_s + max(left, default=0.0)
