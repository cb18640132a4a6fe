"""A daemon from start to end: options, keys, sockets, preloading, and what a signal does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.metadata
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from localllm import daemon_file
from localllm.api import Backend, Notice
from localllm.daemon.app import App
from localllm.daemon.context import Daemon
from localllm.daemon.guard import Guard, is_loopback
from localllm.daemon.keys import OWNER, KeyRing, read_keys
from localllm.daemon.limits import Limits
from localllm.daemon.reloading import Reloader
from localllm.daemon.server import Server, log_accept_errors_once_a_minute, on_hangup, on_signals
from localllm.errors import ConfigError, StoreError

Say = Callable[[str], None]
# The options as they are now, and what gives the new settings to the Backend. Blocks; raises LocalLLMError.
Reread = Callable[[], "tuple[ServeOptions, Callable[[], None]]"]
_CLOSE_NOW_S = 0.5


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a daemon is run. `socket` takes the place of host and port; `preload` models may be files.

    `num_inspected`: how many requests the inspector keeps (0: there is none).
    """

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
    num_inspected: int = 0
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


def make_app(backend: Backend, options: ServeOptions, own_key: str | None = None) -> App:
    """The daemon as an ASGI application. `own_key` is let in too, where keys are wanted.

    Raises ConfigError for unsafe options and unreadable keys.
    """
    daemon = Daemon(
        backend,
        default_model=options.default_model,
        version=_version(),
        limits=options.limits,
        files=options.preload,
        any_file=options.any_file,
        state_dir=options.state_dir,
        num_inspected=options.num_inspected,
    )
    return App(daemon, make_guard(options, own_key))


def make_guard(options: ServeOptions, own_key: str | None = None) -> Guard:
    """Who is let in by these options. Raises ConfigError likewise."""
    options.check()
    keys: KeyRing | None = read_keys(options.key_file) if options.key_file is not None else None
    if keys is not None and own_key is not None:
        keys = keys.with_key(OWNER, own_key)
    return Guard(
        None if options.socket is not None else options.host,
        hosts=options.hosts,
        origins=options.origins,
        keys=keys,
        num_bad_keys=options.limits.num_bad_keys,
    )


async def serve_until_signal(backend: Backend, options: ServeOptions, say: Say, reread: Reread | None = None) -> bool:
    """Serve until SIGINT or SIGTERM, drain, and close the Backend. False: answers had to be cut.

    `say` gets lines for people. SIGHUP and `/reload` read keys and settings again by `reread`. Raises LocalLLMError
    where it cannot listen or preload.
    """
    own_key = secrets.token_hex(24)
    app = make_app(backend, options, own_key)
    reloader = Reloader(app, _preparing(app, reread, own_key)) if reread is not None else None
    server = Server(app)
    stop = asyncio.Event()
    in_time = True
    try:
        hangup = on_hangup(lambda: reloader.reload_soon(say)) if reloader is not None else contextlib.nullcontext()
        with on_signals(stop.set, server.stop_now), hangup, contextlib.ExitStack() as stack:
            log_accept_errors_once_a_minute()
            address, url = await _listen(server, options)
            stack.enter_context(_remembering(app.daemon.recent))
            stack.enter_context(_findable(url, own_key if options.key_file is not None else None, say))
            say(f"listening on {address}")
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


async def _listen(server: Server, options: ServeOptions) -> tuple[str, str]:
    """Listen; returns the address for people, and the one for programs of this machine."""
    if options.socket is not None:
        await server.start_unix(options.socket)
        return str(options.socket), f"unix:{options.socket.absolute()}"
    await server.start_tcp(options.host, options.port)
    host = f"[{options.host}]" if ":" in options.host else options.host
    near = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    return f"http://{host}:{server.port}", f"http://{near}:{server.port}"


@contextlib.contextmanager
def _remembering(recent: logging.Handler) -> Iterator[None]:
    """For the block, what is logged is kept for those who manage the daemon."""
    ours = logging.getLogger("localllm")
    ours.addHandler(recent)
    try:
        yield
    finally:
        ours.removeHandler(recent)


@contextlib.contextmanager
def _findable(url: str, key: str | None, say: Say) -> Iterator[None]:
    """For the block, `localllm run` and its like find this daemon. Without that it serves all the same."""
    try:
        daemon_file.write(daemon_file.DaemonFile(os.getpid(), _version(), url, key))
    except (OSError, StoreError) as exc:
        say(f"commands will not find this daemon: {exc}")
    try:
        yield
    finally:
        daemon_file.remove(os.getpid())


def _preparing(app: App, reread: Reread, own_key: str) -> Callable[[], Callable[[], None]]:
    """What Reloader wants: everything is read and checked first, then put in force at once."""

    def prepare() -> Callable[[], None]:
        options, give_to_backend = reread()
        guard = make_guard(options, own_key)

        def apply() -> None:
            app.use_guard(guard)
            app.daemon.default_model = options.default_model
            give_to_backend()

        return apply

    return prepare


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
