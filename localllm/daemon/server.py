"""Server: listening, and an orderly end. Owns sockets, signals and the drain; knows nothing of requests.

SIGTERM and Ctrl-C drain: no new connections, running answers finish up to a limit, then engines end. A second one
leaves at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from localllm.daemon.app import App
from localllm.daemon.protocol import HttpProtocol
from localllm.errors import ConfigError

logger = logging.getLogger(__name__)
_BACKLOG = 512
_SPARE_FILES = 64
_LAST_BYTES_S = 0.5


class Server:
    """An App on sockets of its own, in the running event loop.

    `start` listens; `drain` ends. `stop_now` cuts a drain short.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._limits = app.daemon.limits
        self._state = ServerState()
        self._config = Config(
            app,
            interface="asgi3",
            lifespan="off",
            ws="none",
            http=HttpProtocol,
            loop="none",
            log_config=None,
            log_level="error",
            access_log=False,
            timeout_keep_alive=self._limits.keep_alive_s,  # type: ignore[arg-type]
            proxy_headers=False,
        )
        self._listeners: list[asyncio.Server] = []
        self._num_connections = _num_connections(self._limits.num_connections)
        self._socket_path: Path | None = None
        self._now = asyncio.Event()

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return int(self._listeners[0].sockets[0].getsockname()[1])

    @property
    def num_connections(self) -> int:
        """Clients connected now."""
        return len(self._state.connections)

    async def start_tcp(self, host: str, port: int) -> None:
        """Listen on a TCP port; 0 takes a free one. Raises ConfigError where that cannot be done."""
        loop = asyncio.get_running_loop()
        try:
            self._listeners.append(await loop.create_server(self._make, host, port, backlog=_BACKLOG))
        except OSError as exc:
            if exc.errno in (errno.EADDRINUSE, 10048):
                raise await _port_taken(host, port) from exc
            raise ConfigError(f"cannot listen on {host} port {port}: {exc.strerror or exc}") from exc

    async def start_unix(self, path: Path) -> None:
        """Listen on a unix socket that only this user can reach. Raises ConfigError where that cannot be done."""
        loop = asyncio.get_running_loop()
        if not hasattr(socket, "AF_UNIX") or sys.platform == "win32":
            raise ConfigError("unix sockets are not available on this system", hint="listen on a port")
        await _remove_stale(path)
        before = os.umask(0o177)
        try:
            self._listeners.append(await loop.create_unix_server(self._make, str(path), backlog=_BACKLOG))
        except OSError as exc:
            raise ConfigError(f"cannot listen on {path}: {exc.strerror or exc}") from exc
        finally:
            os.umask(before)
        self._socket_path = path

    def _make(self) -> asyncio.Protocol:
        if self.num_connections >= self._num_connections:
            self._evict()
        return HttpProtocol(self._config, self._state, self._limits)

    def _evict(self) -> None:
        """Too many clients: one without a request makes room, the newcomer's chance is as good as its."""
        for connection in self._state.connections:
            assert isinstance(connection, HttpProtocol)
            if connection.waits_for_head:
                connection.abort()
                return

    def stop_now(self) -> None:
        """Cut a drain short."""
        self._now.set()

    async def drain(self) -> bool:
        """Stop listening, let running requests end within the limit, then end them. False: some had to be ended."""
        daemon = self._app.daemon
        daemon.is_draining = True
        for listener in self._listeners:
            listener.close()
        if self._socket_path is not None:
            with contextlib.suppress(OSError):
                self._socket_path.unlink()
        for connection in list(self._state.connections):
            connection.shutdown()
        ended = await self._wait_for_tasks(self._limits.drain_s)
        if not ended:
            tasks = {*self._state.tasks, *daemon.tasks}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=0.5)
        await daemon.close()
        await self._close_connections()
        return ended

    async def _close_connections(self) -> None:
        """Close what is left; a client that does not take its last bytes soon is dropped."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _LAST_BYTES_S
        for connection in list(self._state.connections):
            connection.transport.close()
        await asyncio.sleep(0.01)
        while self._state.connections and loop.time() < until:
            await asyncio.sleep(0.01)
        for connection in list(self._state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    async def _wait_for_tasks(self, limit_s: float) -> bool:
        """Whether all requests ended by themselves in time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + limit_s
        now = asyncio.ensure_future(self._now.wait())
        try:
            while tasks := {*self._state.tasks, *self._app.daemon.tasks}:
                left_s = until - loop.time()
                if left_s <= 0 or self._now.is_set():
                    return False
                await asyncio.wait({now, *tasks}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            return True
        finally:
            now.cancel()


@contextlib.contextmanager
def on_signals(first: Callable[[], object], again: Callable[[], object]) -> Iterator[None]:
    """Within the block the first SIGINT or SIGTERM calls `first` in the event loop, each further one `again`."""
    loop = asyncio.get_running_loop()
    num_signals = 0

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal num_signals
        num_signals += 1
        loop.call_soon_threadsafe(first if num_signals == 1 else again)

    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def on_hangup(then: Callable[[], object]) -> Iterator[None]:
    """Within the block SIGHUP calls `then` in the event loop. Windows has no such signal; there is `/reload`."""
    number = getattr(signal, "SIGHUP", None)
    if number is None:
        yield
        return
    loop = asyncio.get_running_loop()
    before = signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(then))
    try:
        yield
    finally:
        signal.signal(number, before)


def log_accept_errors_once_a_minute() -> None:
    """Keep a shortage of files from filling the log: asyncio reports it with a traceback for every client in line."""
    loop = asyncio.get_running_loop()
    last = -60.0

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal last
        if not context.get("message", "").startswith("socket.accept()"):
            loop.default_exception_handler(context)
        elif loop.time() - last >= 60.0:
            last = loop.time()
            logger.warning("clients wait to be let in: %s", context.get("exception"))

    loop.set_exception_handler(handle)


def _num_connections(wanted: int) -> int:
    """As many connections as wanted, where the system gives this process so many files."""
    try:
        import resource
    except ImportError:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + _SPARE_FILES:
        soft = wanted + _SPARE_FILES if hard == resource.RLIM_INFINITY else min(hard, wanted + _SPARE_FILES)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return max(min(wanted, soft - _SPARE_FILES), 8)
    return wanted


async def _port_taken(host: str, port: int) -> ConfigError:
    """Who has the port?"""
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read(4096)
            writer.close()
    except (OSError, TimeoutError):
        answer = b""
    hint = "choose another with --port"
    if b"x-localllm" in answer.lower():
        return ConfigError(f"a localllm daemon is running on port {port} already", hint=f"use it, or {hint}")
    return ConfigError(f"port {port} is in use by another program", hint=hint)


async def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on any more. Raises ConfigError for one in use and for other files."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path} is there and is no socket", hint="choose another path")
    try:
        _reader, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        path.unlink()
        return
    writer.close()
    raise ConfigError(f"a daemon is listening on {path} already")
