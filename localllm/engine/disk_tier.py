"""DiskTier: reads and writes prefixes beside the engine's thread. Owns two threads; decides nothing.

A write takes a state that nobody changes any more. While steps are computed it goes on slowly: its checksum would take
a core from them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from localllm.engine.batch import DiskNews, Fetch, Fetched, Lost, Store, Stored, Written
from localllm.engine.prefix_files import PrefixFiles

State = npt.NDArray[np.uint8]
Report = Callable[[DiskNews, State | None], None]

# A write pauses this long after each part while steps are computed: it takes a tenth of one core's time then.
PAUSE_S = 0.05
BUSY_S = 0.25


class DiskTier:
    """Carries out Fetch and Store. `report` gets, on another thread, one Fetched or Written for each."""

    def __init__(self, files: PrefixFiles, report: Report) -> None:
        self._files = files
        self._report = report
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="prefix-reader")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="prefix-writer")
        self._busy_until = 0.0
        self._given: dict[int, Stored] = {}  # by the key of the saved state that was read

    def computing(self, busy: bool) -> None:
        """Say whether a step is computed now: writing should be slow for a while."""
        self._busy_until = time.monotonic() + BUSY_S if busy else 0.0

    def fetch(self, op: Fetch) -> None:
        """Begin to read."""
        self._reader.submit(self._fetch, op)

    def store(self, op: Store, state: State) -> None:
        """Begin to write."""
        self._writer.submit(self._store, op, state)

    def refused(self, key: int) -> None:
        """Llama.cpp did not take the saved state `key`: if it came from disk, no later engine shall meet it."""
        if (stored := self._given.pop(key, None)) is not None:
            self._files.remove(stored)

    def dropped(self, key: int) -> None:
        """The saved state `key` is no more."""
        self._given.pop(key, None)

    def close(self) -> None:
        """Wait for what is under way."""
        self._busy_until = 0.0
        self._reader.shutdown(cancel_futures=True)
        self._writer.shutdown(cancel_futures=True)

    def _fetch(self, op: Fetch) -> None:
        state: Any = None
        try:
            state = self._files.read(op.stored, _allocate)
            if state is not None:
                self._given[op.key] = op.stored
        finally:
            self._report(Fetched(op.stored, op.key, state is not None), state)

    def _store(self, op: Store, state: State) -> None:
        ok = False
        try:
            ok, lost = self._files.write(op.stored, state, self._pace)
            for stored in lost:
                self._report(Lost(stored), None)
            if ok:
                for stored in op.replaces:
                    self._files.remove(stored)
        finally:
            self._report(Written(op.stored, ok), None)

    def _pace(self) -> None:
        if time.monotonic() < self._busy_until:
            time.sleep(PAUSE_S)


def _allocate(num_bytes: int) -> State:
    return np.empty(num_bytes, np.uint8)
