"""A real pseudo-terminal with a program in it, for tests of what a person sees and types."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Self

import pytest

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX", allow_module_level=True)

import pty
import termios

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|\x1b[=>78]")


class Terminal:
    """A child whose three standard streams are a terminal. Leaving the block ends it."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None, *, columns: int = 120) -> None:
        own, child = pty.openpty()
        termios.tcsetwinsize(own, (40, columns))
        self._fd = own
        self.raw = ""
        environ = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **(env or {})}
        self._process = subprocess.Popen(
            command, stdin=child, stdout=child, stderr=child, env=environ, start_new_session=True, close_fds=True
        )
        os.close(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._fd)

    @property
    def text(self) -> str:
        """Everything shown so far, without escape sequences."""
        return _ESCAPES.sub("", self.raw).replace("\r", "")

    def type(self, keys: str) -> None:
        """Press keys; Enter is a carriage return."""
        os.write(self._fd, keys.encode())

    def interrupt(self) -> None:
        """Send Ctrl-C as the terminal would while a program that does not read keys is running."""
        os.killpg(self._process.pid, signal.SIGINT)

    def interrupt_to_the_end(self) -> int:
        """Press Ctrl-C until the program ends: one just before a blocking read begins is noticed only after it."""
        for _ in range(20):
            self.interrupt()
            try:
                return self.wait(1.0)
            except subprocess.TimeoutExpired:
                continue
        raise AssertionError("Ctrl-C does not end it")

    def wait_for(self, words: str, *, after: int = 0, timeout_s: float = 20.0) -> int:
        """Read until `words` stand in the text behind position `after`; returns the position behind them."""
        deadline = time.monotonic() + timeout_s
        while (at := self.text.find(words, after)) < 0:
            assert self._read(deadline - time.monotonic()), f"{words!r} is not in {self.text[after:]!r}"
        return at + len(words)

    def wait(self, timeout_s: float = 20.0) -> int:
        """Read to the end; returns the exit code."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline - time.monotonic()):
            pass
        return self._process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], max(0.0, seconds))
        if not ready:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            return False
        self.raw += data.decode("utf-8", "replace")
        return bool(data)
