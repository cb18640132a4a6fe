"""`localllm list`, `show`, `rm` and `cp`: what is installed."""

from __future__ import annotations

from typing import Annotated

import typer

from localllm.cli.options import Json, Model, Models, Quiet
from localllm.cli.runtime import runtime_of


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("list")(list_models)
    app.command("ls", hidden=True)(list_models)
    app.command("show")(show)
    app.command("rm")(remove)
    app.command("cp")(copy)


def list_models(ctx: typer.Context, json: Json = False, quiet: Quiet = False) -> None:
    """List the installed models.

    With --json an array of objects: name, size_bytes, digest, origin, modified, architecture, num_params, quant,
    num_ctx_train, licence, capabilities. With --quiet names only, one a line.
    """
    import asyncio

    from localllm.cli.listing import show_list
    from localllm.cli.output import Output

    runtime = runtime_of(ctx)
    settings = runtime.settings()
    asyncio.run(show_list(runtime, settings, Output(json=json, quiet=quiet)))


def show(
    ctx: typer.Context,
    model: Model,
    *,
    template: Annotated[bool, typer.Option("--template", help="Only the chat template.")] = False,
    licence: Annotated[bool, typer.Option("--licence", "--license", help="Only the licence.")] = False,
    metadata: Annotated[bool, typer.Option("--metadata", help="Every metadata key of the file too.")] = False,
    tensors: Annotated[bool, typer.Option("--tensors", help="Every tensor too.")] = False,
    json: Json = False,
) -> None:
    """Show what a model is: an installed one by name, or a .gguf file by its path."""
    from localllm.cli import showing
    from localllm.cli.output import Output

    runtime = runtime_of(ctx)
    facts = showing.read_model(runtime.store(runtime.settings()), model)
    output = Output(json=json)
    if json:
        output.document(showing.document(facts, tensors=tensors))
    elif template or licence:
        showing.show_text(output, facts, template=template, licence=licence)
    else:
        showing.show_facts(output, facts, metadata=metadata, tensors=tensors)


def remove(ctx: typer.Context, model: Models, quiet: Quiet = False) -> None:
    """Remove models. Bytes that another model shares stay."""
    from localllm.cli.installed import find_installed
    from localllm.cli.output import Output
    from localllm.terminal_text import size

    runtime = runtime_of(ctx)
    output = Output(quiet=quiet)
    store = runtime.store(runtime.settings())
    for name in dict.fromkeys(find_installed(store, typed).name for typed in model):
        freed = store.remove(name)
        output.note(f"removed {name}, {size(freed)} freed")


def copy(
    ctx: typer.Context,
    model: Model,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The second name.")],
    quiet: Quiet = False,
) -> None:
    """Give an installed model a second name; the bytes are shared."""
    from localllm.cli.installed import find_installed
    from localllm.cli.output import Output
    from localllm.errors import ModelNameError
    from localllm.name import ModelName

    runtime = runtime_of(ctx)
    store = runtime.store(runtime.settings())
    target = ModelName.parse(name)
    if target.source != "catalog":
        raise ModelNameError(f"{name} is the name of a source, not one to give", hint="such as my-model or my-model:q4")
    source = find_installed(store, model)
    store.copy(source.name, str(target))
    Output(quiet=quiet).note(f"{target} is {source.name}")
