"""Progress of a long install: one line that rewrites itself on a terminal, a line a milestone elsewhere. ASCII only."""

from __future__ import annotations

import os
import shutil
import time
from typing import TextIO


class Progress:
    """Shows steps, and within a step how much is done. Use as a context manager: leaving it ends the line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._started = time.monotonic()
        self._step = ""
        self._tenth = 0
        self._width = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._clear()

    def announce(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        print(text, file=self._stream, flush=True)

    def step(self, text: str) -> None:
        """A new step begins."""
        if text == self._step:
            return
        self._step, self._tenth = text, 0
        self._write(text)

    def count(self, done: int, total: int) -> None:
        """Within the step, `done` of `total` parts are ready."""
        tenth = 10 * done // max(total, 1)
        if self._live or tenth > self._tenth:
            self._write(f"{self._step}: {done} of {total}")
        self._tenth = max(self._tenth, tenth)

    def _write(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        line = f"  {minutes}:{seconds:02d}  {text}"
        if not self._live:
            print(line, file=self._stream, flush=True)
            return
        line = line[: shutil.get_terminal_size().columns - 1]
        # Spaces, not an escape sequence, cover the rest of a longer line: old Windows consoles know no escapes.
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)

    def _clear(self) -> None:
        if self._live and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0
