"""`localllm search`: look through the catalogue of known models. Uses no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from localllm.cli.options import Json, Quiet
from localllm.cli.runtime import runtime_of

if TYPE_CHECKING:
    from localllm.catalog import Variant


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(search)


def search(
    ctx: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="Words to look for; none: all.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search the catalogue: names, titles, publishers, licences, and what a model can do (chat, tools, vision, ...).

    With --json an array of objects: name, aliases, title, publisher, description, quant, num_params, num_ctx,
    size_bytes, licence, capabilities, sources, installed. With --quiet names only, one a line.
    """
    from localllm.catalog import Catalog
    from localllm.cli.output import Output
    from localllm.cli.table import Column
    from localllm.terminal_text import count, size

    runtime = runtime_of(ctx)
    output = Output(json=json, quiet=quiet)
    here = {manifest.name for manifest in runtime.store(runtime.settings()).list()}
    text = " ".join(words or ())
    found = Catalog.load().search(text)
    if json:
        output.document([_document(variant, here) for variant in found])
    elif quiet:
        output.lines([variant.name for variant in found])
    elif found:
        columns = (
            Column("NAME", keep=9),
            Column("PARAMS", True, 7),
            Column("QUANT", keep=5),
            Column("SIZE", True, 4),
            Column("CONTEXT", True, 3),
            Column("CAN", keep=6),
            Column("INSTALLED", keep=8),
        )
        rows = [
            (
                variant.name,
                count(variant.num_params),
                variant.quant,
                size(variant.size_bytes) if variant.size_bytes else "",
                str(variant.num_ctx),
                " ".join(variant.capabilities),
                "yes" if variant.name in here else "",
            )
            for variant in found
        ]
        output.table(columns, rows)
    if not found:
        near = Catalog.load().suggest(text)
        output.note(
            f"no model in the catalogue matches {text!r}" + (f"; near to it: {', '.join(near)}" if near else "")
        )


def _document(variant: Variant, here: set[str]) -> dict[str, object]:
    names = (
        "name", "aliases", "title", "publisher", "description", "quant", "num_params", "num_ctx", "size_bytes",
        "licence", "capabilities", "sources",
    )  # fmt: skip
    return {name: getattr(variant, name) for name in names} | {"installed": variant.name in here}
