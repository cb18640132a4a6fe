"""Which of the models in memory is the one a person named."""

from __future__ import annotations

from localllm.api import Backend, LoadedModel
from localllm.api.keeper import HasKeeper
from localllm.errors import LocalLLMError
from localllm.name import ModelName


async def find_loaded(backend: Backend, model: str) -> LoadedModel | None:
    """The model in memory, ready; None where it is not. Never loads. Raises what the Backend raises."""
    ready = {loaded.name: loaded for loaded in await backend.list_loaded() if loaded.state == "ready"}
    if not ready:
        return None
    for name in _spellings(model):
        if name in ready:
            return ready[name]
    kept = await _kept_name(backend, model)
    return ready.get(kept) if kept is not None else None


def _spellings(model: str) -> tuple[str, ...]:
    try:
        name = ModelName.parse(model)
    except LocalLLMError:
        return (model,)
    return (model, str(name), name.absolute().repo) if name.source == "file" else (model, str(name))


async def _kept_name(backend: Backend, model: str) -> str | None:
    """What the store calls it: a short name may stand for a longer one."""
    if not isinstance(backend, HasKeeper):
        return None
    try:
        return (await backend.keeper.info(model)).name
    except LocalLLMError:
        return None
