"""Admission: how many generations may be under way or waiting, in all and per key. Counts; does no work itself."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from localllm.errors import QueueFullError

_MAX_WAIT_S = 60.0


class Admission:
    """A bounded number of generations. Whoever is refused is told when a place is likely to be free."""

    def __init__(self, num_total: int, num_per_key: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._num_total = num_total
        self._num_per_key = num_per_key
        self._clock = clock
        self._per_key: collections.Counter[str] = collections.Counter()
        self._ended: collections.deque[float] = collections.deque(maxlen=16)
        self.num_active = 0

    @contextmanager
    def place(self, key: str) -> Iterator[None]:
        """Hold a place for the block. Raises QueueFullError, with `retry_after_s`, where there is none."""
        if self.num_active >= self._num_total:
            raise self._full("the daemon has", self.num_active)
        if key and self._per_key[key] >= self._num_per_key:
            raise self._full("this key has", self._per_key[key])
        self.num_active += 1
        self._per_key[key] += 1
        try:
            yield
        finally:
            self.num_active -= 1
            self._per_key[key] -= 1
            if not self._per_key[key]:
                del self._per_key[key]
            self._ended.append(self._clock())

    def _full(self, who: str, num_waiting: int) -> QueueFullError:
        """Places become free as fast as they lately did."""
        wait_s = 1.0
        if len(self._ended) > 1:
            wait_s = (self._clock() - self._ended[0]) / len(self._ended)
        return QueueFullError(
            f"{who} {num_waiting} requests under way already",
            hint="ask again later",
            num_waiting=num_waiting,
            retry_after_s=min(max(wait_s, 1.0), _MAX_WAIT_S),
        )
