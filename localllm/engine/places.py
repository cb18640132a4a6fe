"""Places: what requests that wait are told of the queue. Owns when they are told, and how long a request takes of late.

Pure: the clock is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable

from localllm.api import Queued
from localllm.engine.answer import Answer
from localllm.engine.request import Request

# A request that waits is told its place after this long, and again when it changed, as often at most.
TELL_S = 0.25
_NEWEST_SHARE = 0.2


class Places:
    """Tells those who wait how many go before them, and how long that should take."""

    def __init__(self) -> None:
        self._request_s = 0.0
        self._told_at = float("-inf")

    def note(self, request_s: float) -> None:
        """A request took so many seconds from its first step to its end."""
        kept = 1.0 - _NEWEST_SHARE if self._request_s else 0.0
        self._request_s = kept * self._request_s + (1.0 - kept) * request_s

    def eta_s(self, num_ahead: int, num_running: int) -> float | None:
        """Seconds until a sequence with so many ahead gets its slot, at the pace of late. None: nothing ended yet."""
        if self._request_s == 0.0:
            return None
        return (num_ahead + 1) * self._request_s / max(1, num_running)

    def tell(self, now: float, waiting: Iterable[tuple[Request, Answer]], num_running: int) -> None:
        """Give each of the requests in `waiting`, in their order, a Queued event if its place is news to it."""
        if now - self._told_at < TELL_S:
            return
        self._told_at = now
        for place, (request, answer) in enumerate(waiting):
            is_new = answer.index == 0 and not request.started and place != request.place_told
            if is_new and now - request.submitted >= TELL_S:
                request.place_told = place
                request.events.append(Queued(place, self.eta_s(place, num_running)))
