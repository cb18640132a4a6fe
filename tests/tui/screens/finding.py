"""A scripted Backend with a keeper and a finder, for tests of what is done with models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from localllm.api import LoadedModel, ModelInfo, Progress
from localllm.api.finder import Fit, Offer, Speed
from localllm.api.keeper import ModelDetails, TensorShape
from localllm.errors import LocalLLMError, ModelInUseError, ModelNotFoundError
from tests.tui.host import MODEL, MODELS, ScriptedBackend

GB = 10**9
OFFERS = (
    Offer(
        MODEL, "SmolLM2", "Hugging Face", "small and open", 135_000_000, "Q4_1", 98_362_432, num_ctx=8192,
        licence="Apache-2.0", capabilities=("chat",), installed=True,
        fit=Fit("fits", 2 * GB, 16 * GB, "CPU", 8192, 8192, "header"),
        speed=Speed(142.4, "measured", MODEL, "answers"),
    ),
    Offer(
        "qwen3:8b", "Qwen3", "Alibaba", "dense", 8_190_000_000, "Q4_K_M", 5_030_000_000, num_ctx=40960,
        licence="Apache-2.0", licence_url="https://example.org/licence", capabilities=("chat", "tools"),
        fit=Fit("reduced", 12 * GB, 16 * GB, "CPU", 22784, 40960, "size"),
        speed=Speed(2.77, "scaled", MODEL, "answers"),
    ),
    Offer(
        "llama3.3:70b", "Llama 3.3", "Meta", "large", 70_600_000_000, "Q4_K_M", 42_500_000_000, num_ctx=131072,
        licence="Llama 3.3", capabilities=("chat",),
        fit=Fit("paged", 48 * GB, 16 * GB, "CPU", 4096, 131072, "size", "larger than memory"),
    ),
)  # fmt: skip


class Shelf:
    """The keeper and the finder of the scripted Backend."""

    def __init__(self, backend: FindingBackend) -> None:
        self._backend = backend

    async def info(self, model: str) -> ModelInfo:
        for info in self._backend.models:
            if info.name == model:
                return info
        raise ModelNotFoundError(f"no model {model}", name=model)

    async def details(self, model: str, *, tensors: bool = False) -> ModelDetails:
        info = await self.info(model)
        shapes = (TensorShape("output.weight", "Q6_K", (576, 49152)), TensorShape("blk.0.w", "F32", (576,)))
        metadata: dict[str, Any] = {
            "general.architecture": "llama",
            "general.license": "apache-2.0 \x1b]0;owned\x07",
            "tokenizer.ggml.tokens": None,
        }
        return ModelDetails(info, metadata, "{{ messages }}\x1b[2J", tensors=shapes if tensors else ())

    async def copy(self, source: str, target: str) -> None:
        raise NotImplementedError

    async def remove(self, model: str) -> None:
        info = await self.info(model)
        if model in self._backend.loaded:
            raise ModelInUseError(f"{model} is in use", name=model)
        self._backend.models.remove(info)

    async def create(self, new: Any) -> ModelInfo:
        raise NotImplementedError

    async def has_blob(self, digest: str) -> bool:
        raise NotImplementedError

    async def put_blob(self, digest: str, data: Any, size_bytes: int | None = None) -> bool:
        raise NotImplementedError

    async def catalogue(self, query: str = "") -> tuple[Offer, ...]:
        assert not query, "what is typed is looked for here"
        if self._backend.no_catalogue is not None:
            raise self._backend.no_catalogue
        return OFFERS

    async def offer(self, model: str) -> Offer:
        await self.info(model)
        return Offer(model, installed=True, fit=Fit("fits", GB, 16 * GB, "CPU", 4096, 4096, "header"))


class FindingBackend(ScriptedBackend):
    """Pulls go by `steps`: what each pull of a name does in turn, a wait, an error, or a Progress."""

    def __init__(self, *scripts: Any, models: Sequence[ModelInfo] = MODELS) -> None:
        super().__init__(*scripts, models=models)
        self.shelf = Shelf(self)
        self.steps: dict[str, list[list[Progress | LocalLLMError | asyncio.Event]]] = {}
        self.no_catalogue: LocalLLMError | None = None
        self.pulled: list[str] = []
        self.left: list[str] = []
        self.pins: list[tuple[str, bool | None]] = []

    @property
    def keeper(self) -> Shelf:
        return self.shelf

    @property
    def finder(self) -> Shelf:
        return self.shelf

    async def load(self, model: str, **wishes: Any) -> AsyncIterator[Any]:
        self.pins.append((model, wishes.get("pin")))
        async for news in super().load(model, **wishes):
            yield news
        pinned = wishes.get("pin")
        if pinned is not None:
            self.loaded[model] = msgspec.structs.replace(self.loaded[model], pinned=pinned)

    async def pull(self, model: str) -> AsyncIterator[Progress]:
        self.pulled.append(model)
        turns = self.steps.get(model)
        try:
            for step in turns.pop(0) if turns else []:
                match step:
                    case asyncio.Event():
                        await step.wait()
                    case LocalLLMError():
                        raise step
                    case _:
                        yield step
        except (GeneratorExit, asyncio.CancelledError):
            self.left.append(model)
            raise
        self.models[:] = [info for info in self.models if info.name != model]
        self.models.append(ModelInfo(model, 1000, "sha256:" + "22" * 32, "hf:owner/new", "2026-01-01T00:00:00+00:00"))


def loaded(name: str) -> LoadedModel:
    """A model in memory."""
    return LoadedModel(name, 1, 8192, 4, 8192, "CPU", load_s=0.25, bytes_by_device={"CPU": 180_000_000})
