"""`localllm doctor`: what this installation and this machine have, and what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from localllm.cli.options import Json, Quiet
from localllm.cli.runtime import runtime_of

if TYPE_CHECKING:
    from localllm.cli.diagnosis import Diagnosis
    from localllm.cli.output import Output


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(doctor)


def doctor(ctx: typer.Context, json: Json = False, quiet: Quiet = False) -> None:
    """Say which backends, CPU features, memory and store are here, and what is wrong. Exit code 1 when something is.

    With --json an object: ok, versions, system, devices, features, store, settings, problems (each: level, message,
    hint).
    """
    from localllm.cli.diagnosis import diagnose
    from localllm.cli.output import Output

    output = Output(json=json, quiet=quiet)
    found = diagnose(runtime_of(ctx))
    if json:
        output.document({"ok": found.ok, **{name: getattr(found, name) for name in found.__struct_fields__}})
    else:
        if not quiet:
            _show(output, found)
        for problem in found.problems:
            style = "red" if problem.level == "error" else "yellow"
            output.warn(problem.message, f"{problem.level}:", style)
            if problem.hint:
                output.warn(problem.hint, "hint:", "dim")
        if found.ok:
            output.note("nothing is wrong")
    if not found.ok:
        raise typer.Exit(1)


def _show(output: Output, found: Diagnosis) -> None:
    from localllm.cli.table import Column, pairs
    from localllm.terminal_text import size

    memory = f"{size(found.system.memory_bytes)}, {size(found.system.available_bytes)} available"
    store = found.store
    rows = [
        *found.versions.items(),
        ("system", found.system.platform),
        ("cores", str(found.system.num_cores)),
        ("memory", memory),
        *((f"{backend} features", features) for backend, features in found.features.items()),
        ("settings", f"{found.settings.file}{'' if found.settings.exists else ' (not there: defaults)'}"),
        ("store", str(store.path)),
        ("models", f"{store.num_models}, {size(store.size_bytes)}"),
        ("free disk", size(store.free_bytes)),
    ]
    output.lines(pairs(rows))
    if found.devices:
        output.line()
        columns = (Column("DEVICE", keep=9), Column("KIND", keep=6), Column("FREE", True, 8), Column("OF", True, 7))
        cells = [(d.name, d.kind, size(d.free_bytes), size(d.total_bytes), d.description) for d in found.devices]
        output.table((*columns, Column("DESCRIPTION", keep=5)), cells)
