"""`localllm load`: bring a model into the running daemon's memory."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from localllm.cli.options import Model, Quiet


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(load)


def load(
    model: Model,
    *,
    keep_alive: Annotated[
        str | None,
        typer.Option(
            "--keep-alive", metavar="TIME", help='How long it stays once idle: such as "90s", "10m", "2h", or "ever".'
        ),
    ] = None,
    pin: Annotated[
        bool | None, typer.Option("--pin/--no-pin", help="Never unload it to make room for others, or do again.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Bring a model into the running daemon's memory, ahead of the first request.

    A model that crashed too often is tried again, too.
    """
    import asyncio

    keep_alive_s = None if keep_alive is None else duration_s(keep_alive)
    asyncio.run(_load(model, keep_alive_s, pin, quiet))


async def _load(model: str, keep_alive_s: float | None, pin: bool | None, quiet: bool) -> None:
    from localllm.api import Notice
    from localllm.cli.borrowed import running_daemon
    from localllm.cli.output import Output
    from localllm.cli.progress import ProgressView

    output = Output(quiet=quiet)
    client = running_daemon()
    with ProgressView(output) as view:
        async for event in client.load(model, keep_alive_s=keep_alive_s, pin=pin):
            if isinstance(event, Notice):
                view.close()
                output.note(f"note: {event.message}")
            else:
                view.update(event)
    output.note(f"{model} is loaded")


def duration_s(text: str) -> float:
    """Seconds of "90", "90s", "10m", "1.5h"; -1 for "ever". Raises UsageError."""
    from localllm.errors import UsageError

    if text.strip().lower() in ("ever", "forever", "-1"):
        return -1.0
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?", text.strip().lower())
    if parts is None:
        raise UsageError(f"{text!r} is no time", hint='such as "90s", "10m", "2h", "0" or "ever"')
    return float(parts[1]) * {"m": 60, "min": 60, "h": 3600}.get(parts[2] or "s", 1)
