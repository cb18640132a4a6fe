"""`localllm replay`: make a recorded answer again and say whether it is the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from localllm.cli.options import Json, Offline, Quiet, load_options, with_options
from localllm.cli.runtime import Runtime, runtime_of

if TYPE_CHECKING:
    from localllm.cli.output import Output
    from localllm.config import Settings
    from localllm.replay import Record, Replay


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(with_options(replay))


def replay(
    ctx: typer.Context,
    record: Annotated[Path, typer.Argument(metavar="FILE", help="What `localllm run --receipt FILE` wrote.")],
    *,
    json: Json = False,
    quiet: Quiet = False,
    offline: Offline = False,
    loading: dict[str, Any],
) -> None:
    """Make a recorded answer again, and say whether it is the same and what differs.

    The same machine, build and load options give the same answer where it was recorded with --deterministic. Exit
    code 1: another answer. With --json an object: same, differences and receipt.
    """
    import asyncio

    from localllm.cli.output import Output
    from localllm.replay import load_record

    runtime = runtime_of(ctx)
    settings = runtime.settings(**loading, offline=offline or None)
    output = Output(json=json, quiet=quiet)
    found = asyncio.run(_replay(runtime, load_record(record), settings))
    if json:
        output.document({"same": found.same, "differences": list(found.differences), "receipt": found.receipt})
    else:
        tell(output, found)
    raise typer.Exit(0 if found.same else 1)


async def _replay(runtime: Runtime, record: Record, settings: Settings) -> Replay:
    from localllm.replay import replay

    async with runtime.backend(settings, load_options(settings, num_slots=1)) as backend:
        return await replay(backend, record)


def tell(output: Output, found: Replay) -> None:
    """Say it in words."""
    output.line("the same answer" if found.same else "another answer")
    for difference in found.differences:
        output.line(f"differs: {difference}")
