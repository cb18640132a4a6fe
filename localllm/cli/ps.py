"""`localllm ps`: the models that the running daemon has in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from localllm.cli.options import Json, Quiet

if TYPE_CHECKING:
    from localllm.api import LoadedModel


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(ps)


def ps(json: Json = False, quiet: Quiet = False) -> None:
    """List the models in the running daemon's memory.

    With --json an array of objects: name, pid, num_ctx, num_slots, num_ctx_train, device, num_active, num_waiting,
    load_s, bytes_by_device, expires_in_s, pinned, state, num_output_tokens. With --quiet names only, one a line.
    """
    import asyncio

    from localllm import terminal_text as text
    from localllm.cli.borrowed import running_daemon
    from localllm.cli.output import Output
    from localllm.cli.table import Column

    output = Output(json=json, quiet=quiet)
    loaded = asyncio.run(running_daemon().list_loaded())
    if json:
        output.document(loaded)
    elif quiet:
        output.lines([text.safe_line(model.name) for model in loaded])
    elif not loaded:
        output.note("no model is in memory")
    else:
        columns = (
            Column("NAME", keep=9),
            Column("SIZE", right=True, keep=7),
            Column("CONTEXT", right=True, keep=4),
            Column("DEVICE", keep=5),
            Column("RUNS", right=True, keep=6),
            Column("WAIT", right=True, keep=3),
            Column("UNTIL", keep=8),
        )
        output.table(columns, [_row(model) for model in loaded])


def _row(model: LoadedModel) -> tuple[str, ...]:
    from localllm import terminal_text as text

    return (
        model.name,
        text.size(sum(model.bytes_by_device.values())),
        str(model.num_ctx),
        model.device,
        str(model.num_active - model.num_waiting),
        str(model.num_waiting),
        until(model),
    )


def until(model: LoadedModel) -> str:
    """When a model leaves memory, in words."""
    if model.state != "ready":
        return model.state
    if model.pinned:
        return "pinned"
    if model.expires_in_s is None:
        return "in use" if model.num_active else "stays"
    seconds = round(model.expires_in_s)
    if seconds < 100:
        return f"{seconds} s"
    return f"{round(seconds / 60)} min" if seconds < 100 * 60 else f"{round(seconds / 3600)} h"
