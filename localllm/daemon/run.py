"""A daemon from start to end: options, keys, sockets, preloading, and what a signal does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import msgspec

from localllm.api import Backend, Notice
from localllm.daemon.app import App
from localllm.daemon.context import Daemon
from localllm.daemon.guard import Guard, is_loopback
from localllm.daemon.keys import KeyRing, read_keys
from localllm.daemon.limits import Limits
from localllm.daemon.server import Server, log_accept_errors_once_a_minute, on_signals
from localllm.errors import ConfigError

Say = Callable[[str], None]
_CLOSE_NOW_S = 0.5


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a daemon is run. `socket` takes the place of host and port; `preload` models may be files."""

    host: str
    port: int
    default_model: str
    socket: Path | None = None
    key_file: Path | None = None
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    any_file: bool = False
    insecure: bool = False
    preload: tuple[str, ...] = ()
    state_dir: Path | None = None
    limits: Limits = Limits()

    def check(self) -> None:
        """Raise ConfigError for what would let strangers in without a key."""
        if self.key_file is not None or self.insecure:
            return
        if self.socket is None and not is_loopback(self.host):
            hint = "give --key-file, or --insecure to let anybody ask"
            raise ConfigError(f"{self.host} can be reached from other machines, and there are no keys", hint=hint)
        if "*" in self.origins:
            raise ConfigError("with --cors '*' every web page may ask, and there are no keys", hint="give --key-file")


def make_app(backend: Backend, options: ServeOptions) -> App:
    """The daemon as an ASGI application. Raises ConfigError for unsafe options and unreadable keys."""
    options.check()
    keys: KeyRing | None = read_keys(options.key_file) if options.key_file is not None else None
    daemon = Daemon(
        backend,
        default_model=options.default_model,
        version=_version(),
        limits=options.limits,
        files=options.preload,
        any_file=options.any_file,
        state_dir=options.state_dir,
    )
    guard = Guard(
        None if options.socket is not None else options.host,
        hosts=options.hosts,
        origins=options.origins,
        keys=keys,
        num_bad_keys=options.limits.num_bad_keys,
    )
    return App(daemon, guard)


async def serve_until_signal(backend: Backend, options: ServeOptions, say: Say) -> bool:
    """Serve until SIGINT or SIGTERM, drain, and close the Backend. False: answers had to be cut.

    `say` gets lines for people. Raises LocalLLMError where it cannot listen or preload.
    """
    app = make_app(backend, options)
    server = Server(app)
    stop = asyncio.Event()
    in_time = True
    try:
        with on_signals(stop.set, server.stop_now):
            log_accept_errors_once_a_minute()
            await _listen(server, options, say)
            app.start()
            gc.collect()
            gc.freeze()
            loading = asyncio.create_task(_preload(backend, options.preload, say))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            try:
                if not stop.is_set():
                    loading.result()
                    await stopping
                say("shutting down; once more to leave at once")
            finally:
                loading.cancel()
                stopping.cancel()
                in_time = await server.drain()
    finally:
        if in_time:
            await backend.close()
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(backend.close(), _CLOSE_NOW_S)
    return in_time


async def _listen(server: Server, options: ServeOptions, say: Say) -> None:
    if options.socket is not None:
        await server.start_unix(options.socket)
        say(f"listening on {options.socket}")
        return
    await server.start_tcp(options.host, options.port)
    host = f"[{options.host}]" if ":" in options.host else options.host
    say(f"listening on http://{host}:{server.port}")


async def _preload(backend: Backend, models: tuple[str, ...], say: Say) -> None:
    for model in models:
        async for news in backend.load(model):
            if isinstance(news, Notice):
                say(news.message)
        say(f"{model} is loaded")


def _version() -> str:
    try:
        return importlib.metadata.version("localllm")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
