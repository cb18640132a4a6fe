"""`localllm stop`: take a model out of the running daemon's memory."""

from __future__ import annotations

import typer

from localllm.cli.options import Models, Quiet


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(stop)


def stop(model: Models, quiet: Quiet = False) -> None:
    """Take models out of the running daemon's memory, once they have ended what they run."""
    import asyncio

    asyncio.run(_stop(model, quiet))


async def _stop(models: list[str], quiet: bool) -> None:
    from localllm.cli.borrowed import running_daemon
    from localllm.cli.output import Output

    output = Output(quiet=quiet)
    client = running_daemon()
    for model in dict.fromkeys(models):
        await client.unload(model)
        output.note(f"{model} is unloaded")
