"""Service: the Backend in this process. Resolves names, pulls, loads, and passes requests to engines.

Everything that blocks (disk, network) runs in threads; the event loop only moves events.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from localllm import devices, loading
from localllm.api import (
    ChatRequest,
    CompletionRequest,
    Control,
    Embeddings,
    EmbedRequest,
    Event,
    LoadedModel,
    LoadOptions,
    Message,
    ModelInfo,
    Notice,
    Progress,
    Ranking,
    Rendered,
    RerankRequest,
    check_sampling,
)
from localllm.config import Settings
from localllm.errors import InvalidRequestError, LocalLLMError, ModelNotFoundError
from localllm.keeper import StoreKeeper
from localllm.name import ModelName
from localllm.pool import EnginePool, Lease, PlannedLoad
from localllm.store.adapter_files import resolve_adapters
from localllm.store.manifest import Manifest
from localllm.store.store import ModelStore

if TYPE_CHECKING:
    from localllm.catalog import Catalog

T = TypeVar("T")
News = Progress | Notice
Report = Callable[[News], None]


@dataclass(frozen=True, slots=True)
class _Opened:
    """A model in memory, and the right to use it."""

    lease: Lease
    manifest: Manifest


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
        self._pull_missing = pull_missing
        self.settings = Settings() if settings is None else settings
        self.store = ModelStore(self.settings.store_dir)
        self.keeper = StoreKeeper(self.store, self.find, _info)
        self._options = LoadOptions() if load_options is None else load_options
        self._pool = EnginePool(
            devices.available_memory,
            keep_alive_s=self.settings.keep_alive_s,
            budget_bytes=self.settings.memory_bytes,
        )
        self._catalog: Catalog | None = None
        self._files: dict[str, tuple[tuple[int, int, int], tuple[Manifest, list[Path]]]] = {}

    @property
    def catalog(self) -> Catalog:
        """The models that can be pulled by a short name."""
        if self._catalog is None:
            from localllm.catalog import Catalog

            self._catalog = Catalog.load()
        return self._catalog

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
                async with _closing(engine.chat(_with_defaults(request, item.manifest))) as events:
                    async for event in events:
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
                async with _closing(engine.complete(msgspec.structs.replace(request, sampling=sampling))) as events:
                    async for event in events:
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
        return [_info(manifest) for manifest in await asyncio.to_thread(self.store.list)]

    async def list_loaded(self) -> list[LoadedModel]:
        """See Backend.list_loaded."""
        return self._pool.loaded()

    async def load(
        self,
        model: str,
        *,
        keep_alive_s: float | None = None,
        pin: bool | None = None,
    ) -> AsyncIterator[News]:
        """See Backend.load."""
        async for item in self._open(model, keep_alive_s=keep_alive_s, pin=pin, insist=True):
            if isinstance(item, _Opened):
                with item.lease:
                    return
            yield item

    async def pull(self, model: str, *, update: bool = False) -> AsyncIterator[Progress]:
        """See Backend.pull. `update` asks the source for a newer version of a model that is here."""
        name = ModelName.parse(model)
        async for item in _relay(_in_thread(lambda report, stop: self._pull(name, report, stop, update=update))):
            if isinstance(item, Progress):
                yield item

    async def unload(self, model: str) -> None:
        """See Backend.unload."""
        parsed = ModelName.parse(model)
        path = {parsed.absolute().repo} if parsed.source == "file" else set()
        for name in {model, self.canonical(model), *path}:
            if await self._pool.unload(name):
                return
        raise ModelNotFoundError(f"{model} is not loaded", hint="`localllm ps` lists what is", name=model)

    async def close(self) -> None:
        """See Backend.close."""
        await self._pool.close()

    def reload(self, settings: Settings, catalog: Catalog | None = None) -> None:
        """Go by other settings from now on. What is loaded stays as it is; the store stays where it was."""
        self.settings = msgspec.structs.replace(settings, store_dir=self.settings.store_dir)
        self._pool.keep_alive_s = settings.keep_alive_s
        self._pool.room.budget_bytes = settings.memory_bytes
        self._catalog = catalog

    # --- names and bytes ------------------------------------------------------------------------------------------

    def canonical(self, model: str) -> str:
        """The name under which `model` is in the store: what was typed, or what the catalogue calls it."""
        name = ModelName.parse(model)
        if name.source == "catalog" and (variant := self.catalog.find(str(name))) is not None:
            return variant.name
        return str(name)

    def find(self, model: str) -> Manifest:
        """The installed model of that name. Raises ModelNotFoundError."""
        name = ModelName.parse(model)
        try:
            return self.store.get(str(name))
        except ModelNotFoundError:
            canonical = self.canonical(model)
            if canonical == str(name):
                raise
            return self.store.get(canonical)

    def _pull(self, name: ModelName, report: Report, stop: threading.Event, *, update: bool = False) -> Manifest:
        from localllm.store.pull import PullSettings, pull

        settings = PullSettings.from_environment(
            offline=self.settings.offline,
            hf_endpoint=self.settings.hf_endpoint,
            connections=self.settings.num_connections,
        )
        return pull(
            name,
            self.store,
            settings=settings,
            catalog=self.catalog,
            on_progress=report,
            cancelled=stop,
            update=update,
        )

    def _prepare(
        self, model: str, report: Callable[[News], None], stop: threading.Event
    ) -> tuple[Manifest, list[Path]]:
        """The manifest and files of a model, pulled where needed. A path to a GGUF file is run where it lies."""
        name = ModelName.parse(model)
        if name.source == "file":
            return self._file(name)
        try:
            manifest = self.find(model)
        except ModelNotFoundError:
            if not self._pull_missing:
                raise
            manifest = self._pull(name, report, stop)
        return manifest, self.store.paths(manifest)

    def _file(self, name: ModelName) -> tuple[Manifest, list[Path]]:
        """A file's manifest. Its header is read again only when the file changed: that takes 30 ms for each request."""
        try:
            state = Path(name.absolute().repo).stat()
        except OSError:
            return loading.manifest_of_file(name)
        key = (state.st_ino, state.st_size, state.st_mtime_ns)
        held = self._files.get(str(name))
        if held is None or held[0] != key:
            held = self._files[str(name)] = key, loading.manifest_of_file(name)
        return held[1]

    async def _open(self, model: str, **wishes: Any) -> AsyncIterator[News | _Opened]:
        """Bring a model into memory; yields the news of its pull and load, and last the right to use it.

        `wishes` are those of EnginePool.acquire.
        """
        wanted = [model] if self._options.draft_model is None else [model, self._options.draft_model]
        prepared: list[tuple[Manifest, list[Path]]] = []
        for name in wanted:
            async for item in _relay(_in_thread(functools.partial(self._prepare, name))):
                if isinstance(item, Progress | Notice):
                    yield item
                else:
                    prepared.append(item)
        manifest = prepared[0][0]
        plan = functools.partial(self._plan, prepared[0], prepared[1] if len(prepared) > 1 else None)
        async for news in _relay(lambda report: self._pool.acquire(manifest.name, plan, report, **wishes)):
            yield _Opened(news, manifest) if isinstance(news, Lease) else news

    async def _opened(self, model: str, **wishes: Any) -> Lease:
        async for item in self._open(model, **wishes):
            if isinstance(item, _Opened):
                return item.lease
        raise AssertionError("a load ends in a lease or an error")

    def _plan(
        self, model: tuple[Manifest, list[Path]], draft: tuple[Manifest, list[Path]] | None, available_bytes: int
    ) -> PlannedLoad:
        manifest, paths = model
        hold = self._hold([manifest] if draft is None else [manifest, draft[0]])
        files = loading.draft_files(draft[0].name, draft[1]) if draft is not None else None
        return loading.plan_load(
            manifest, paths, self._options, self.settings, hold, draft=files, available_bytes=available_bytes
        )

    @contextlib.contextmanager
    def _hold(self, manifests: list[Manifest]) -> Iterator[None]:
        """Keep models from being removed from the store for the block."""
        with contextlib.ExitStack() as stack:
            for manifest in manifests:
                if self._is_installed(manifest):
                    stack.enter_context(self.store.lease(manifest))
            yield

    def _is_installed(self, manifest: Manifest) -> bool:
        """Whether the store knows this manifest: a file that runs where it lies has one too."""
        try:
            return self.store.get(manifest.name) == manifest
        except LocalLLMError:
            return False


async def _relay(run: Callable[[Report], Awaitable[T]]) -> AsyncIterator[News | T]:
    """Start `run(report)`; yield what it reports as it comes, and last what it returns. Closing cancels it."""
    items: asyncio.Queue[News | None] = asyncio.Queue()
    task = asyncio.ensure_future(run(items.put_nowait))
    task.add_done_callback(lambda _done: items.put_nowait(None))
    try:
        while (item := await items.get()) is not None:
            yield item
        yield await task
    finally:
        task.cancel()


def _in_thread(work: Callable[[Report, threading.Event], T]) -> Callable[[Report], Awaitable[T]]:
    """Blocking `work(report, stop)` as something to await. Cancelling sets `stop`, at which the work must look."""

    async def run(report: Report) -> T:
        loop = asyncio.get_running_loop()
        stop = threading.Event()

        def relay(news: News) -> None:
            loop.call_soon_threadsafe(report, news)

        try:
            return await asyncio.to_thread(work, relay, stop)
        except asyncio.CancelledError:
            stop.set()
            raise

    return run


def _closing(events: AsyncIterator[Event]) -> contextlib.AbstractAsyncContextManager[AsyncIterator[Event]]:
    """Close an engine's stream at the end of the block, so that an unfinished request is aborted at once."""
    return contextlib.aclosing(events)  # type: ignore[type-var]


def _with_defaults(request: ChatRequest, manifest: Manifest) -> ChatRequest:
    """The request with the model's own sampling and system prompt where it names none."""
    messages = request.messages
    if manifest.system and messages[0].role != "system":
        messages = (Message("system", manifest.system), *messages)
    return msgspec.structs.replace(request, messages=messages, sampling=request.sampling.over(manifest.sampling))


def _info(manifest: Manifest) -> ModelInfo:
    first = next(blob for blob in manifest.blobs if blob.role == "model")
    return ModelInfo(
        name=manifest.name,
        size_bytes=manifest.size_bytes,
        digest=first.digest,
        origin=manifest.origin,
        modified=manifest.created,
        architecture=manifest.architecture,
        num_params=manifest.num_params,
        quant=manifest.quant,
        num_ctx_train=manifest.num_ctx_train,
        licence=manifest.licence,
        capabilities=manifest.capabilities,
    )
