"""Warming: a model is brought into memory while its person writes. Only one that is here: nothing is pulled unasked."""

from __future__ import annotations

from collections.abc import Callable

from localllm_tui.turns.loaded import find_loaded

from localllm.api import Backend, Progress
from localllm.api.keeper import HasKeeper
from localllm.errors import LocalLLMError
from localllm.name import ModelName


async def warm(backend: Backend, model: str, say: Callable[[Progress], None]) -> None:
    """Load `model` where it is installed. What fails is said by the message that needs it."""
    try:
        if not await _is_here(backend, model) or await find_loaded(backend, model) is not None:
            return
        async for news in backend.load(model):
            if isinstance(news, Progress):
                say(news)
    except LocalLLMError:
        return


async def _is_here(backend: Backend, model: str) -> bool:
    if ModelName.parse(model).source == "file":
        return True
    if isinstance(backend, HasKeeper):
        return bool(await backend.keeper.info(model))
    return any(info.name == model for info in await backend.list_models())
