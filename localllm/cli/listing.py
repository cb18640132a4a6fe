"""Shows installed models as a table, as names, or as JSON."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from localllm import terminal_text as text
from localllm.cli.table import Column

if TYPE_CHECKING:
    from localllm.api import ModelInfo
    from localllm.cli.output import Output
    from localllm.cli.runtime import Runtime
    from localllm.config import Settings

_COLUMNS = (
    Column("NAME", keep=9),
    Column("SIZE", right=True, keep=8),
    Column("QUANT", keep=6),
    Column("PARAMS", right=True, keep=5),
    Column("CONTEXT", right=True, keep=4),
    Column("MODIFIED", keep=7),
)


async def show_list(runtime: Runtime, settings: Settings, output: Output) -> None:
    """List what the Backend has installed."""
    async with runtime.backend(settings) as backend:
        models = await backend.list_models()
    if output.json:
        output.document(models)
    elif output.quiet:
        output.lines([text.safe_line(model.name) for model in models])
    elif models:
        now = datetime.datetime.now(datetime.UTC)
        output.table(_COLUMNS, [_row(model, now) for model in models])
    else:
        output.note(f"no model is installed; `localllm pull {settings.default_model}` fetches one")


def _row(model: ModelInfo, now: datetime.datetime) -> tuple[str, ...]:
    return (
        model.name,
        text.size(model.size_bytes),
        model.quant or "",
        text.count(model.num_params),
        str(model.num_ctx_train or ""),
        text.age(model.modified, now),
    )
