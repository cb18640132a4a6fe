"""`localllm pull`: bring models into the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from localllm.cli.options import Json, Models, Offline, Quiet
from localllm.cli.runtime import Runtime, runtime_of

if TYPE_CHECKING:
    from localllm.cli.output import Output
    from localllm.config import Settings


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(pull)


def pull(ctx: typer.Context, model: Models, json: Json = False, quiet: Quiet = False, offline: Offline = False) -> None:
    """Fetch models: from the catalogue, a hub, a registry, a web address or a file.

    For example smollm2:135m, hf:owner/repo:Q4_K_M, ms:owner/repo, ollama:name:tag, https://host/x.gguf, ./x.gguf.
    With --json the installed models that were fetched, as in `localllm list --json`.
    """
    import asyncio

    from localllm.cli.output import Output

    runtime = runtime_of(ctx)
    settings = runtime.settings(offline=offline or None)
    asyncio.run(_pull(runtime, settings, Output(json=json, quiet=quiet), model))


async def _pull(runtime: Runtime, settings: Settings, output: Output, models: list[str]) -> None:
    from localllm.cli.installed import matching
    from localllm.cli.progress import ProgressView

    async with runtime.backend(settings) as backend:
        for model in models:
            with ProgressView(output) as view:
                async for event in backend.pull(model):
                    view.update(event)
            output.note(f"{model} is installed")
        if output.json:
            here = {info.name: info for info in await backend.list_models()}
            names = dict.fromkeys(matching(here, model) for model in models)
            output.document([here[name] for name in names if name])
