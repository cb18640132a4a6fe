"""`localllm adopt`: take over the models that other programs on this machine hold, without copying them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from localllm.cli.options import DryRun, Json, Quiet
from localllm.cli.runtime import runtime_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localllm.cli.output import Output
    from localllm.store.adopt_layouts import Adoptable
    from localllm.store.manifest import Manifest
    from localllm.store.store import ModelStore


class AdoptSource(StrEnum):
    huggingface = "huggingface"
    ollama = "ollama"
    lmstudio = "lmstudio"
    llamacpp = "llamacpp"
    jan = "jan"


_ByPaths = dict[tuple[Path, ...], str]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(adopt)


def adopt(
    ctx: typer.Context,
    source: Annotated[
        list[AdoptSource] | None,
        typer.Option(
            "--source",
            metavar="NAME",
            help="Only from here (repeatable): huggingface, ollama, lmstudio, llamacpp or jan.",
        ),
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take over models of Hugging Face's cache, Ollama, LM Studio, llama.cpp and Jan, without copying or changing them.

    With --json an array of objects: name, source, origin, size_bytes, paths, state (new, installed, adopted or failed),
    error.
    """
    from localllm.cli.output import Output
    from localllm.store.adopt import find_adoptable

    runtime = runtime_of(ctx)
    store = runtime.store(runtime.settings())
    output = Output(json=json, quiet=quiet)
    wanted = {item.value for item in source or AdoptSource}
    found = [item for item in find_adoptable() if item.source in wanted]
    here = store.list()
    states = {item.paths: "installed" if _is_installed(item, here) else "new" for item in found}
    errors = {} if dry_run else _adopt_all(store, output, found, states)
    _show(output, found, states, errors)
    _say_total(output, found, states, dry_run=dry_run)
    if errors:
        raise typer.Exit(1)


def _is_installed(item: Adoptable, here: Sequence[Manifest]) -> bool:
    digests = {file.digest for file in item.files}
    return any(m.origin == item.origin or digests == {blob.digest for blob in m.blobs} for m in here)


def _adopt_all(store: ModelStore, output: Output, found: Sequence[Adoptable], states: _ByPaths) -> _ByPaths:
    """Adopt what is new, marking `states`; one that fails does not stop the others. Returns the errors."""
    from localllm.cli.progress import ProgressView
    from localllm.errors import LocalLLMError
    from localllm.store.adopt import adopt as adopt_one

    errors: _ByPaths = {}
    for item in found:
        if states[item.paths] != "new":
            continue
        try:
            with ProgressView(output) as view:
                adopt_one(store, item, on_progress=view.update)
            states[item.paths] = "adopted"
        except LocalLLMError as exc:
            states[item.paths] = "failed"
            errors[item.paths] = exc.message
            output.warn(f"{item.name}: {exc.message}", "error:", "red")
    return errors


def _show(
    output: Output,
    found: Sequence[Adoptable],
    states: _ByPaths,
    errors: _ByPaths,
) -> None:
    from localllm.cli.table import Column
    from localllm.terminal_text import size

    if output.json:
        output.document(
            [
                {
                    "name": item.name,
                    "source": item.source,
                    "origin": item.origin,
                    "size_bytes": item.size_bytes,
                    "paths": item.paths,
                    "state": states[item.paths],
                    "error": errors.get(item.paths),
                }
                for item in found
            ]
        )
    elif found:
        columns = (Column("NAME", keep=9), Column("FROM", keep=5), Column("SIZE", True, 7), Column("STATE", keep=6))
        output.table(columns, [(i.name, i.source, size(i.size_bytes), states[i.paths]) for i in found])


def _say_total(output: Output, found: Sequence[Adoptable], states: _ByPaths, *, dry_run: bool) -> None:
    from localllm.terminal_text import size

    counted = [item for item in found if states[item.paths] == ("new" if dry_run else "adopted")]
    saved = size(sum(item.size_bytes for item in counted))
    if not found:
        output.note("no model of another program was found here")
    elif dry_run:
        output.note(f"{len(counted)} to adopt, {saved} that need not be fetched or copied")
    else:
        output.note(f"{len(counted)} adopted, {saved} saved")
