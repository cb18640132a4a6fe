"""`localllm serve`: the daemon, in the foreground."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from localllm.cli.options import Offline, Quiet, load_options, with_options
from localllm.cli.runtime import Runtime, runtime_of

if TYPE_CHECKING:
    from localllm.api import LoadOptions
    from localllm.cli.output import Output
    from localllm.config import Settings
    from localllm.daemon.limits import Limits
    from localllm.daemon.run import ServeOptions


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(with_options(serve))


def serve(
    ctx: typer.Context,
    *,
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="Address to listen on; any but loopback needs keys.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", metavar="N", help="Port to listen on; 0: a free one.")
    ] = None,
    socket: Annotated[
        Path | None, typer.Option("--socket", metavar="PATH", help="Listen on a unix socket instead.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", metavar="PATH", help="Keys that clients must show, one a line.")
    ] = None,
    cors: Annotated[
        list[str] | None, typer.Option("--cors", metavar="ORIGIN", help="Let pages of this origin ask (repeatable).")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A further name of this machine (repeatable)."),
    ] = None,
    allow_files: Annotated[bool, typer.Option("--allow-files", help="Let clients name model files by path.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without keys. Anybody may ask then.")
    ] = False,
    max_body: Annotated[
        int | None, typer.Option("--max-body", min=1, metavar="MIB", help="Largest request body.", show_default="32")
    ] = None,
    max_requests: Annotated[
        int | None,
        typer.Option(
            "--max-requests", min=1, metavar="N", help="Requests at once, waiting ones too.", show_default="128"
        ),
    ] = None,
    drain: Annotated[
        float | None,
        typer.Option("--drain", min=0, metavar="S", help="Seconds answers may go on after Ctrl-C.", show_default="30"),
    ] = None,
    num_slots: Annotated[
        int | None, typer.Option("--slots", min=1, metavar="N", help="Requests that one model runs at once.")
    ] = None,
    preload: Annotated[
        list[str] | None,
        typer.Option("--preload", metavar="MODEL", help="Load this model now; may be a file (repeatable)."),
    ] = None,
    inspect: Annotated[
        int | None,
        typer.Option(
            "--inspect",
            min=0,
            metavar="N",
            help="Keep the last N requests whole, for their client to look at.",
            show_default="0",
        ),
    ] = None,
    log_file: Annotated[
        Path | None,
        typer.Option("--log-file", metavar="PATH", help="Where it logs; `localllm logs` shows the usual one."),
    ] = None,
    loading: dict[str, Any],
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Answer OpenAI clients over HTTP at http://127.0.0.1:11435/v1. Ctrl-C lets running answers end; twice leaves now.

    Models are loaded when first asked for, and must be installed: only a pull that a client asks for in so many words
    downloads. Exit code 0 after an orderly end, 1 when answers had to be cut. SIGHUP reads keys, settings and the
    catalogue again.
    """
    import asyncio

    from localllm.cli.daemon_log import log_to_file
    from localllm.cli.output import Output
    from localllm.daemon.run import ServeOptions

    runtime = runtime_of(ctx)

    def read() -> tuple[Settings, ServeOptions]:
        settings = runtime.settings(host=host, port=port, key_file=key_file, offline=offline or None, **loading)
        return settings, options_of(settings)

    def options_of(settings: Settings) -> ServeOptions:
        return ServeOptions(
            host=settings.host,
            port=settings.port,
            socket=socket,
            key_file=settings.key_file,
            origins=tuple(cors or ()),
            hosts=tuple(allow_host or ()),
            any_file=allow_files,
            insecure=insecure,
            preload=tuple(preload or ()),
            default_model=settings.default_model,
            num_inspected=inspect or 0,
            limits=_limits(max_body, max_requests, drain),
        )

    settings, options = read()
    options.check()
    log_to_file(log_file)
    load = load_options(settings, num_slots=num_slots)
    if not asyncio.run(_serve(runtime, settings, load, options, Output(quiet=quiet), read=read)):
        raise typer.Exit(1)


async def _serve(
    runtime: Runtime,
    settings: Settings,
    load: LoadOptions,
    options: ServeOptions,
    output: Output,
    *,
    read: Callable[[], tuple[Settings, ServeOptions]],
) -> bool:
    from localllm.daemon.run import serve_until_signal

    async with runtime.backend(settings, load, pull_missing=False) as backend:

        def reread() -> tuple[ServeOptions, Callable[[], None]]:
            from localllm.catalog import Catalog
            from localllm.service import Service

            settings, options = read()
            catalog = Catalog.load()
            return options, lambda: backend.reload(settings, catalog) if isinstance(backend, Service) else None

        return await serve_until_signal(backend, options, output.note, reread)


def _limits(max_body_mib: int | None, max_requests: int | None, drain_s: float | None) -> Limits:
    from localllm.daemon.limits import MIB, Limits

    default = Limits()
    body_bytes = default.body_bytes if max_body_mib is None else max_body_mib * MIB
    return Limits(
        body_bytes=body_bytes,
        all_bodies_bytes=max(default.all_bodies_bytes, 2 * body_bytes),
        num_requests=max_requests or default.num_requests,
        drain_s=default.drain_s if drain_s is None else drain_s,
    )
