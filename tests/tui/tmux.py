"""A real terminal: tmux, with a server of its own. Keys are sent to it, and its screen is read."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import pytest

_ENDED = "ended-with"


def skip_without_tmux() -> None:
    """Skip by name; under CI that is a failure, because there they must run."""
    if shutil.which("tmux") is None:
        if os.environ.get("CI"):
            pytest.fail("no tmux: install the package `tmux`")
        pytest.skip("no tmux: install the package `tmux`")


class Tmux:
    """A window with a program in it. Leaving the block ends the server and all in it."""

    def __init__(self, *, columns: int = 110, rows: int = 34, env: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tmux-", ignore_cleanup_errors=True)
        self._socket = str(Path(self._folder.name) / "s")
        self._env = {**os.environ, "TERM": "xterm-256color", **(env or {})}
        self._env.pop("TMUX", None)
        (Path(self._folder.name) / "conf").write_text("set -g escape-time 0\n")
        self._size = ["-x", str(columns), "-y", str(rows)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ask("kill-server", check=False)
        self._folder.cleanup()

    def run(self, command: Sequence[str]) -> None:
        """Start a program in the window, where nothing runs any more. A shell stays there and says how it ended."""
        line = shlex.join(["sh", "-c", f"{shlex.join(command)}; echo {_ENDED} $?; exec sleep 600"])
        if self._ask("has-session", check=False).returncode == 0:
            self._ask("respawn-pane", "-k", line)
        else:
            self._ask("new-session", "-d", *self._size, line)

    def keys(self, *keys: str) -> None:
        """Press keys, by tmux's names: Enter, C-q, Escape, Up."""
        self._ask("send-keys", *keys)

    def type(self, text: str) -> None:
        """Type text as it is."""
        self._ask("send-keys", "-l", text)

    def screen(self) -> str:
        """What is on the screen now."""
        return self._ask("capture-pane", "-p").stdout

    def until(self, found: str | Callable[[str], object], limit_s: float = 30.0) -> str:
        """The screen, once `found` is on it, or true of it."""
        deadline = time.monotonic() + limit_s
        while True:
            screen = self.screen()
            if found in screen if isinstance(found, str) else found(screen):
                return screen
            assert time.monotonic() < deadline, f"not within {limit_s:g} s: {found}\n{screen}"
            time.sleep(0.05)

    def ended(self, limit_s: float = 15.0) -> int:
        """The exit status of the program, once it has ended."""
        screen = self.until(_ENDED, limit_s)
        return int(screen.rpartition(_ENDED)[2].split()[0])

    def pid(self) -> int:
        """The program's process."""
        shell = self._ask("list-panes", "-F", "#{pane_pid}").stdout.strip()
        return int(subprocess.run(["pgrep", "-P", shell], capture_output=True, text=True, check=True).stdout)

    def _ask(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        config = str(Path(self._folder.name) / "conf")
        command = ["tmux", "-S", self._socket, "-f", config, *words]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, check=check, timeout=20)
