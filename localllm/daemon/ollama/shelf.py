"""Which model is meant: an installed one by its name, a loaded one by what is installed."""

from __future__ import annotations

from localllm.api import LoadedModel, ModelInfo
from localllm.api.keeper import HasKeeper
from localllm.daemon.context import Daemon
from localllm.errors import ModelNotFoundError


async def find_info(daemon: Daemon, model: str) -> ModelInfo | None:
    """What is known of an installed model, if it is one."""
    if isinstance(daemon.backend, HasKeeper):
        try:
            return await daemon.backend.keeper.info(model)
        except ModelNotFoundError:
            return None
    return next((info for info in await daemon.backend.list_models() if info.name == model), None)


def is_loaded(loaded: LoadedModel, info: ModelInfo | None, model: str) -> bool:
    """Whether `loaded` is what `model`, known as `info`, names."""
    return loaded.name == model or (info is not None and loaded.name == info.name)


async def leave_memory(daemon: Daemon, name: str) -> None:
    """Unload an idle model before its files change or go; a busy one stays, and whoever wants to change it is told."""
    for loaded in await daemon.backend.list_loaded():
        if loaded.name == name and not loaded.num_active:
            try:
                await daemon.backend.unload(name)
            except ModelNotFoundError:
                return
