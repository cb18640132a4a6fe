"""The last lines that the daemon logged, kept for whoever may manage it. Prompts are in no log."""

from __future__ import annotations

import collections
import logging

NUM_KEPT = 200
_MAX_CHARS = 2000


class RecentLines(logging.Handler):
    """A log handler that keeps its last lines."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self.lines: collections.deque[str] = collections.deque(maxlen=NUM_KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, each of its lines by itself."""
        try:
            self.lines.extend(line[:_MAX_CHARS] for line in self.format(record).splitlines())
        except Exception:
            self.handleError(record)
