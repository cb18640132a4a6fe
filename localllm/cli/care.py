"""`localllm verify` and `prune`: is the store sound, and is anything in it of no use."""

from __future__ import annotations

from typing import Annotated

import typer

from localllm.cli.complete import complete_model
from localllm.cli.options import DryRun, Json, Quiet
from localllm.cli.runtime import runtime_of


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(verify)
    app.command()(prune)


def verify(
    ctx: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL...", help="Names; without any, all.", autocompletion=complete_model),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read every byte of models against their digests. Exit code 1 when one is corrupt or missing.

    With --json an array of objects: name, ok, blobs (each: digest, filename, size_bytes, state, path).
    """
    from localllm.cli.installed import find_installed
    from localllm.cli.output import Output
    from localllm.cli.progress import ProgressView
    from localllm.cli.table import Column

    runtime = runtime_of(ctx)
    output = Output(json=json, quiet=quiet)
    store = runtime.store(runtime.settings())
    manifests = [find_installed(store, typed) for typed in model] if model else store.list()
    found = {}
    for name in dict.fromkeys(manifest.name for manifest in manifests):
        with ProgressView(output) as view:
            found[name] = store.verify(name, view.update)
    bad = [name for name, blobs in found.items() if any(blob.state != "ok" for blob in blobs)]
    if json:
        output.document([_document(name, blobs, ok=name not in bad) for name, blobs in found.items()])
    elif found and not quiet:
        rows = [(name, blob.blob.filename, blob.state) for name, blobs in found.items() for blob in blobs]
        output.table((Column("NAME", keep=9), Column("FILE", keep=5), Column("STATE", keep=8)), rows)
    for name in bad:
        output.warn(f"{name} does not hold the bytes it should", "error:", "red")
        output.warn(f"`localllm pull {name}` mends it", "hint:", "dim")
    if bad:
        raise typer.Exit(1)


def _document(name: str, blobs: object, *, ok: bool) -> dict[str, object]:
    from localllm.store.store import BlobState

    assert isinstance(blobs, list)
    states: list[BlobState] = blobs
    return {
        "name": name,
        "ok": ok,
        "blobs": [
            {
                "digest": state.blob.digest,
                "filename": state.blob.filename,
                "size_bytes": state.blob.size_bytes,
                "state": state.state,
                "path": state.path,
            }
            for state in states
        ],
    }


def prune(ctx: typer.Context, dry_run: DryRun = False, json: Json = False, quiet: Quiet = False) -> None:
    """Remove what no model needs: stray bytes, unfinished downloads, leftovers of killed processes, cached prompts.

    With --json an object: freed_bytes, blobs (digests), num_leftovers, num_prefixes (cached prompts), dry_run.
    """
    from localllm.cli.output import Output
    from localllm.engine.prefix_files import clear
    from localllm.paths import prefix_dir
    from localllm.terminal_text import size

    runtime = runtime_of(ctx)
    output = Output(json=json, quiet=quiet)
    report = runtime.store(runtime.settings()).prune(dry_run=dry_run)
    num_prefixes, prefix_bytes = clear(prefix_dir(), dry_run=dry_run)
    freed_bytes = report.freed_bytes + prefix_bytes
    if json:
        output.document(
            {
                "freed_bytes": freed_bytes,
                "blobs": report.blobs,
                "num_leftovers": report.num_leftovers,
                "num_prefixes": num_prefixes,
                "dry_run": dry_run,
            }
        )
    elif not report.blobs and not report.num_leftovers and not num_prefixes:
        output.note("nothing to remove")
    else:
        verb = "would free" if dry_run else "freed"
        what = f"{len(report.blobs)} blobs, {report.num_leftovers} leftovers, {num_prefixes} cached prompts"
        output.note(f"{verb} {size(freed_bytes)}: {what}")
