"""`localllm serve` as a program of its own: started, asked, signalled, ended."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FAKE = (sys.executable, str(Path(__file__).parent.parent / "cli" / "fake_backend.py"))
REAL = (sys.executable, "-c", "import sys; from localllm.cli import main; sys.exit(main())")


@dataclass
class Program:
    """A running daemon, and what it said."""

    process: subprocess.Popen[str]
    port: int
    said: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path, headers={"connection": "close"})
        return connection.getresponse()

    def end(self, timeout_s: float = 20) -> int:
        """Its exit status, once it is gone."""
        assert self.process.stderr is not None
        self.said += self.process.stderr.read().splitlines()
        return self.process.wait(timeout_s)


@contextlib.contextmanager
def program(*args: str, command: Sequence[str] = FAKE) -> Iterator[Program]:
    """`localllm serve --port 0 ARGS` from its first line on; killed at the end of the block if it is still there."""
    environ = {**os.environ, "PYTHONWARNINGS": "error"}
    process = subprocess.Popen(
        [*command, "serve", "--port", "0", *args],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environ,
    )
    with process:
        assert process.stderr is not None
        first = process.stderr.readline().rstrip()
        found = re.search(r":(\d+)$", first)
        try:
            yield Program(process, int(found[1]) if found else 0, [first])
        finally:
            process.kill()
