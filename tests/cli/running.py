"""Runs the command as a program of its own, over the scripted Backend."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

FAKE = Path(__file__).parent / "fake_backend.py"
COMMAND = (sys.executable, str(FAKE))


def localllm(*args: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> Ran:
    """`localllm ARGS` to its end. Without `stdin` its standard input is empty."""
    return subprocess.run(
        [*COMMAND, *args],
        input="" if stdin is None else stdin,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **(env or {})},
        timeout=60,
        check=False,
    )


Ran = subprocess.CompletedProcess[str]
