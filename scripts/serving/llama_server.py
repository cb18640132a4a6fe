"""LlamaServer: llama.cpp's own server as a child, with its defaults, on a free loopback port; ended by its pid."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import tempfile
import time
from typing import IO

from serving import sse
from serving.target import TargetError

START_S = 120.0
CLOSE_S = 5.0


class LlamaServer:
    """Starts `program -m model` and whatever `arguments` follow."""

    def __init__(self, program: str, model: str, arguments: list[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self._port = taken.getsockname()[1]
        # `--offline` only says that nothing is to be fetched.
        where = ["--host", "127.0.0.1", "--port", str(self._port), "--offline"]
        self.command = [program, "-m", model, *where, *arguments]
        self._child: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Start it and wait until it is healthy. Raises TargetError with the end of its log."""
        folder = os.path.dirname(os.path.abspath(self.command[0]))
        places = {name: os.pathsep.join(filter(None, (folder, os.environ.get(name)))) for name in _LIBRARY_PATHS}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the server
        try:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env=os.environ | places,
            )
        except OSError as error:
            self._log.close()
            raise TargetError(f"{self.command[0]} cannot be started: {error}") from error
        began = time.monotonic()
        while not await self._is_healthy():
            if self._child.poll() is not None:
                raise TargetError(f"llama-server ended with status {self._child.returncode}: {self._last_lines()}")
            if time.monotonic() - began > START_S:
                raise TargetError(f"llama-server was not healthy after {START_S:g} s: {self._last_lines()}")
            await asyncio.sleep(0.1)

    def close(self) -> None:
        """End it, by force if it must be."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(CLOSE_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        if self._log is not None:
            self._log.close()

    async def _is_healthy(self) -> bool:
        try:
            async with asyncio.timeout(2):
                received = await sse.exchange("GET", f"{self.url}/health")
            return received.split()[0] == 200
        except (OSError, TimeoutError):
            return False

    def _last_lines(self) -> str:
        assert self._log is not None
        self._log.seek(0)
        return " | ".join(self._log.read().decode("utf-8", "replace").splitlines()[-3:]) or "no log"


_LIBRARY_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
