"""Starting engine children. Standard library only and quick to import: a child starts before all else is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

_spares: list[subprocess.Popen[bytes]] = []


def prestart() -> None:
    """Start a spare child now, for the next `take`; it imports llama.cpp meanwhile. It ends with this process."""
    _spares.append(_spawn())


def take() -> subprocess.Popen[bytes]:
    """A child without a model: the spare one, else a new one. Its stdin, stdout and stderr are pipes."""
    return _spares.pop() if _spares else _spawn()


def discard() -> None:
    """End the spare ones: another process answers."""
    while _spares:
        child = _spares.pop()
        child.kill()
        child.communicate()


def _spawn() -> subprocess.Popen[bytes]:
    # -P: a file in the current directory must not be imported in place of a library.
    command = [sys.executable, "-P", "-m", "localllm.engine.worker"]
    pipe = subprocess.PIPE
    # Ctrl-C is for the parent to interpret; on Windows a new group keeps it from the child.
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    # Before it aborts, llama.cpp would have a debugger print its stack, which takes a second and hides the reason.
    environ = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, creationflags=flags, env=environ)
