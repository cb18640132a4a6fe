"""Service: the Backend in this process. Has names resolved, loads, and passes requests to engines.

Everything that blocks (disk, network) runs in threads; the event loop only moves events.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from localllm import devices, loading
from localllm.api import (
    ChatRequest,
    CompletionRequest,
    Control,
    Embeddings,
    EmbedRequest,
    Event,
    Finished,
    GenerationRequest,
    LoadedModel,
    LoadOptions,
    Message,
    ModelInfo,
    Notice,
    Progress,
    Queued,
    Ranking,
    Rendered,
    RerankRequest,
    check_sampling,
)
from localllm.closing import closing
from localllm.config import Settings
from localllm.errors import InvalidRequestError, ModelNotFoundError
from localllm.keeper import StoreKeeper
from localllm.name import ModelName
from localllm.news import News, in_thread, relay
from localllm.pool import EnginePool, Lease, PlannedLoad
from localllm.resolver import Resolver, info_of
from localllm.store.adapter_files import resolve_adapters
from localllm.store.identity import is_hashed, weights_id
from localllm.store.manifest import Manifest

if TYPE_CHECKING:
    from localllm.catalog import Catalog
    from localllm.finder import CatalogFinder
    from localllm.speeds import Speeds


@dataclass(frozen=True, slots=True)
class _Opened:
    """A model in memory, and the right to use it. `was_quiet`: no engine was at work then."""

    lease: Lease
    manifest: Manifest
    was_quiet: bool


class Service:
    """Models of one store, run by engines of this process.

    `load_options` hold for every model this service loads. Without `pull_missing` a model that is not here is an error.
    Close it to end the engines; they also end with the process.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        load_options: LoadOptions | None = None,
        pull_missing: bool = True,
    ) -> None:
        self.resolver = Resolver(Settings() if settings is None else settings, pull_missing=pull_missing)
        self.store = self.resolver.store
        self.keeper = StoreKeeper(self.store, self.resolver.find, info_of)
        self._options = LoadOptions() if load_options is None else load_options
        self._num_ctx: dict[str, int] = {}
        self._pool = EnginePool(
            devices.available_memory,
            keep_alive_s=self.settings.keep_alive_s,
            budget_bytes=self.settings.memory_bytes,
        )

    @property
    def settings(self) -> Settings:
        """By which this service goes."""
        return self.resolver.settings

    @functools.cached_property
    def finder(self) -> CatalogFinder:
        """What may be pulled and what is here, judged by this machine."""
        from localllm.finder import CatalogFinder

        return CatalogFinder(self.resolver, self._pool.attainable_bytes, self._speeds)

    @functools.cached_property
    def _speeds(self) -> Speeds:
        from localllm.speeds import Speeds

        return Speeds()

    @property
    def catalog(self) -> Catalog:
        """The models that can be pulled by a short name."""
        return self.resolver.catalog

    # --- Backend --------------------------------------------------------------------------------------------------

    async def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        """See Backend.chat."""
        if not request.messages:
            raise InvalidRequestError("a chat without messages", hint="give at least one user message")
        check_sampling(request.sampling)
        request = msgspec.structs.replace(request, adapters=resolve_adapters(request.adapters))
        async for item in self._open(request.model, keep_alive_s=request.keep_alive_s):
            if not isinstance(item, _Opened):
                yield item
                continue
            with item.lease as engine:
                async with closing(engine.chat(_with_defaults(request, item.manifest))) as events:
                    async for event in events:
                        if isinstance(event, Finished):
                            self._observe(item, request, event)
                        yield event

    async def complete(self, request: CompletionRequest) -> AsyncIterator[Event]:
        """See Backend.complete."""
        check_sampling(request.sampling)
        request = msgspec.structs.replace(request, adapters=resolve_adapters(request.adapters))
        async for item in self._open(request.model, keep_alive_s=request.keep_alive_s):
            if not isinstance(item, _Opened):
                yield item
                continue
            sampling = request.sampling.over(item.manifest.sampling)
            with item.lease as engine:
                async with closing(engine.complete(msgspec.structs.replace(request, sampling=sampling))) as events:
                    async for event in events:
                        if isinstance(event, Finished):
                            self._observe(item, request, event)
                        yield event

    async def tokenize(self, model: str, text: str, *, parse_special: bool = False) -> list[int]:
        """See Backend.tokenize."""
        with await self._opened(model) as engine:
            return await engine.tokenize(text, parse_special)

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        """See Backend.detokenize."""
        with await self._opened(model) as engine:
            return await engine.detokenize(tuple(tokens))

    async def render(self, request: ChatRequest) -> Rendered:
        """See Backend.render."""
        async for item in self._open(request.model, keep_alive_s=request.keep_alive_s):
            if isinstance(item, _Opened):
                with item.lease as engine:
                    return await engine.render(_with_defaults(request, item.manifest))
        raise AssertionError("a load ends in a lease or an error")

    async def control(self, request_id: str, control: Control) -> bool:
        """See Backend.control."""
        return any(engine.steer(request_id, control) for engine in self._pool.engines())

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """See Backend.embed."""
        with await self._opened(request.model, keep_alive_s=request.keep_alive_s) as engine:
            return await engine.embed(request)

    async def rerank(self, request: RerankRequest) -> Ranking:
        """See Backend.rerank."""
        with await self._opened(request.model, keep_alive_s=request.keep_alive_s) as engine:
            return await engine.rerank(request)

    async def list_models(self) -> list[ModelInfo]:
        """See Backend.list_models."""
        return [info_of(manifest) for manifest in await asyncio.to_thread(self.store.list)]

    async def list_loaded(self) -> list[LoadedModel]:
        """See Backend.list_loaded."""
        return self._pool.loaded()

    async def load(
        self,
        model: str,
        *,
        keep_alive_s: float | None = None,
        pin: bool | None = None,
        num_ctx: int | None = None,
    ) -> AsyncIterator[Progress | Notice]:
        """See Backend.load."""
        if num_ctx is not None:
            await self._set_num_ctx(model, num_ctx)
        async for item in self._open(model, keep_alive_s=keep_alive_s, pin=pin, insist=True):
            if isinstance(item, _Opened):
                with item.lease:
                    return
            if not isinstance(item, Queued):
                yield item

    async def pull(self, model: str, *, update: bool = False) -> AsyncIterator[Progress]:
        """See Backend.pull. `update` asks the source for a newer version of a model that is here."""
        name = ModelName.parse(model)
        async for item in relay(in_thread(functools.partial(self.resolver.pull, name, update=update))):
            if isinstance(item, Progress):
                yield item

    async def unload(self, model: str) -> None:
        """See Backend.unload."""
        for name in self._names(model):
            if await self._pool.unload(name):
                return
        raise ModelNotFoundError(f"{model} is not loaded", hint="`localllm ps` lists what is", name=model)

    def _names(self, model: str) -> set[str]:
        """What `model` may be called in memory."""
        parsed = ModelName.parse(model)
        path = {parsed.absolute().repo} if parsed.source == "file" else set()
        return {model, self.resolver.canonical(model), *path}

    async def _set_num_ctx(self, model: str, num_ctx: int) -> None:
        if num_ctx < 1:
            raise InvalidRequestError(f"num_ctx is {num_ctx}", hint="num_ctx is at least 1", param="num_ctx")
        names = self._names(model)
        self._num_ctx |= dict.fromkeys(names, num_ctx)
        for loaded in self._pool.loaded():
            if loaded.name in names and loaded.num_ctx != num_ctx:
                await self._pool.unload(loaded.name)

    async def close(self) -> None:
        """See Backend.close."""
        await self._pool.close()
        if "_speeds" in self.__dict__:
            await asyncio.to_thread(self._speeds.save)

    def reload(self, settings: Settings, catalog: Catalog | None = None) -> None:
        """Go by other settings from now on. What is loaded stays as it is; the store stays where it was."""
        self.resolver.reload(settings, catalog)
        self._pool.keep_alive_s = settings.keep_alive_s
        self._pool.room.budget_bytes = settings.memory_bytes

    def _observe(self, opened: _Opened, request: GenerationRequest, finished: Finished) -> None:
        """Keep how fast an answer was that nothing else slowed down."""
        engine, manifest = opened.lease.engine, opened.manifest
        is_alone = opened.was_quiet and self._num_active() <= 1 and request.n == 1 and not request.deterministic
        if is_alone and engine.info is not None and is_hashed(manifest):
            self._speeds.note(weights_id(manifest, ()), manifest.name, engine.info.device, finished)

    def _num_active(self) -> int:
        """Requests under way, over all engines: they share one machine."""
        return sum(engine.num_active for engine in self._pool.engines())

    # --- bringing a model into memory -----------------------------------------------------------------------------

    async def _open(self, model: str, **wishes: Any) -> AsyncIterator[News | _Opened]:
        """Bring a model into memory; yields the news of its pull and load, and last the right to use it.

        `wishes` are those of EnginePool.acquire.
        """
        wanted = [model] if self._options.draft_model is None else [model, self._options.draft_model]
        prepared: list[tuple[Manifest, list[Path]]] = []
        for name in wanted:
            async for item in relay(in_thread(functools.partial(self.resolver.prepare, name))):
                if isinstance(item, Progress | Notice | Queued):
                    yield item
                else:
                    prepared.append(item)
        manifest = prepared[0][0]
        plan = functools.partial(self._plan, prepared[0], prepared[1] if len(prepared) > 1 else None)
        async for news in relay(lambda report: self._pool.acquire(manifest.name, plan, report, **wishes)):
            yield _Opened(news, manifest, not self._num_active()) if isinstance(news, Lease) else news

    async def _opened(self, model: str, **wishes: Any) -> Lease:
        async for item in self._open(model, **wishes):
            if isinstance(item, _Opened):
                return item.lease
        raise AssertionError("a load ends in a lease or an error")

    def _plan(
        self, model: tuple[Manifest, list[Path]], draft: tuple[Manifest, list[Path]] | None, available_bytes: int
    ) -> PlannedLoad:
        manifest, paths = model
        hold = self.resolver.hold([manifest] if draft is None else [manifest, draft[0]])
        files = loading.draft_files(draft[0].name, draft[1]) if draft is not None else None
        options = self._options
        if manifest.name in self._num_ctx:
            options = msgspec.structs.replace(options, num_ctx=self._num_ctx[manifest.name])
        return loading.plan_load(
            manifest, paths, options, self.settings, hold, draft=files, available_bytes=available_bytes
        )


def _with_defaults(request: ChatRequest, manifest: Manifest) -> ChatRequest:
    """The request with the model's own sampling and system prompt where it names none."""
    messages = request.messages
    if manifest.system and messages[0].role != "system":
        messages = (Message("system", manifest.system), *messages)
    return msgspec.structs.replace(request, messages=messages, sampling=request.sampling.over(manifest.sampling))
