"""ClientLoad: what measuring itself cost, so that a figure can be trusted: CPU time and the event loop's lag."""

from __future__ import annotations

import asyncio
import time

from serving.figures import Figures, percentile

EVERY_S = 0.02


class ClientLoad:
    """Used around a workload: `with ClientLoad() as load: ...`, then `load.figures()`.

    The lag is how much later than asked for the event loop runs a timer: an arrival may be stamped that much too late.
    A timer every 20 ms costs under 0.1 % of a core.
    """

    def __init__(self) -> None:
        self._lags: list[float] = []
        self._figures: Figures = {}

    def __enter__(self) -> ClientLoad:
        self._loop = asyncio.get_running_loop()
        self._began, self._cpu = time.perf_counter(), time.process_time()
        self._due = self._loop.time() + EVERY_S
        self._timer = self._loop.call_at(self._due, self._tick)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        wall_s = time.perf_counter() - self._began
        self._figures = {"client_cpu_share": (time.process_time() - self._cpu) / wall_s}
        if self._lags:
            self._figures["client_lag_p99_s"] = percentile(self._lags, 0.99)

    def figures(self) -> Figures:
        """CPU seconds of this process for each second measured, and the 99th percentile of the lag."""
        return self._figures

    def _tick(self) -> None:
        now = self._loop.time()
        self._lags.append(max(0.0, now - self._due))
        self._due = now + EVERY_S
        self._timer = self._loop.call_at(self._due, self._tick)
