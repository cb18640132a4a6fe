"""One-line use: `localllm.chat(model, "...")` and its streaming and async forms, over one Service for the process.

The Service lives on an event loop of its own in a background thread, so that the plain functions work anywhere, and
models stay loaded between calls. Async callers who want their own loop and options use `Service` itself.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from localllm.api import (
    AnyTool,
    ChatRequest,
    Constraint,
    Embeddings,
    EmbedRequest,
    Event,
    Finished,
    FinishReason,
    Format,
    Message,
    Notice,
    Ranking,
    ReasoningDelta,
    RerankRequest,
    SamplingParams,
    TextDelta,
    Timings,
    ToolCall,
    ToolCallEvent,
    ToolChoice,
    Usage,
    as_constraint,
    as_tool,
    as_tool_choice,
)
from localllm.config import load_settings
from localllm.service import Service

T = TypeVar("T")
Prompt = str | Sequence[Message]
AnyFormat = Constraint | Format
_Item = Event | BaseException | None


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. `notices` are what a user should know, such as a reduced context."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    notices: tuple[Notice, ...]

    def __str__(self) -> str:
        return self.text


def chat(
    model: str,
    prompt: Prompt,
    *,
    system: str | None = None,
    format: AnyFormat | None = None,
    tools: Sequence[AnyTool] = (),
    tool_choice: ToolChoice | str = "auto",
    **sampling: Any,
) -> Answer:
    """Ask `model` and wait for the whole answer. `sampling` takes the fields of SamplingParams.

    `format` binds the answer: "json", a JSON Schema as a dict, or a constraint such as `Regex` or `Choice`.
    `tools` may be called, each a ToolSpec or a dict; `tool_choice` is "auto", "none", "required", or a tool's name.
    Pulls and loads the model where needed. Raises LocalLLMError.
    """
    more: dict[str, Any] = {"format": format, "tools": tools, "tool_choice": tool_choice, **sampling}
    return _answer(list(stream_chat(model, prompt, system=system, **more)))


def stream_chat(
    model: str,
    prompt: Prompt,
    *,
    system: str | None = None,
    format: AnyFormat | None = None,
    tools: Sequence[AnyTool] = (),
    tool_choice: ToolChoice | str = "auto",
    **sampling: Any,
) -> Iterator[Event]:
    """Ask `model`; yields events as they come and ends in one Finished. Closing the iterator stops the answer."""
    items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
    future = _start(_request(model, prompt, system, format, sampling, tools=tools, choice=tool_choice), items.put)
    try:
        while (item := items.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        future.cancel()


async def achat(
    model: str,
    prompt: Prompt,
    *,
    system: str | None = None,
    format: AnyFormat | None = None,
    tools: Sequence[AnyTool] = (),
    tool_choice: ToolChoice | str = "auto",
    **sampling: Any,
) -> Answer:
    """`chat` for async code."""
    more: dict[str, Any] = {"format": format, "tools": tools, "tool_choice": tool_choice, **sampling}
    return _answer([event async for event in astream_chat(model, prompt, system=system, **more)])


async def astream_chat(
    model: str,
    prompt: Prompt,
    *,
    system: str | None = None,
    format: AnyFormat | None = None,
    tools: Sequence[AnyTool] = (),
    tool_choice: ToolChoice | str = "auto",
    **sampling: Any,
) -> AsyncIterator[Event]:
    """`stream_chat` for async code."""
    here = asyncio.get_running_loop()
    items: asyncio.Queue[_Item] = asyncio.Queue()
    future = _start(
        _request(model, prompt, system, format, sampling, tools=tools, choice=tool_choice),
        lambda item: here.call_soon_threadsafe(items.put_nowait, item),
    )
    try:
        while (item := await items.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        future.cancel()


def embed(model: str, texts: str | Sequence[str], **options: Any) -> Embeddings:
    """Turn texts into vectors, one each, in order. `options` takes the fields of EmbedRequest. Raises LocalLLMError."""
    return _wait(_embed(model, texts, options))


async def aembed(model: str, texts: str | Sequence[str], **options: Any) -> Embeddings:
    """`embed` for async code."""
    return await asyncio.wrap_future(_embed(model, texts, options))


def rerank(model: str, query: str, documents: Sequence[str], **options: Any) -> Ranking:
    """Order documents by how well they answer `query`, best first. `options` takes the fields of RerankRequest."""
    return _wait(_rerank(model, query, documents, options))


async def arerank(model: str, query: str, documents: Sequence[str], **options: Any) -> Ranking:
    """`rerank` for async code."""
    return await asyncio.wrap_future(_rerank(model, query, documents, options))


def _embed(model: str, texts: str | Sequence[str], options: dict[str, Any]) -> concurrent.futures.Future[Embeddings]:
    inputs = (texts,) if isinstance(texts, str) else tuple(texts)
    portal = _Portal.shared()
    return asyncio.run_coroutine_threadsafe(portal.service.embed(EmbedRequest(model, inputs, **options)), portal.loop)


def _rerank(
    model: str, query: str, documents: Sequence[str], options: dict[str, Any]
) -> concurrent.futures.Future[Ranking]:
    request = RerankRequest(model, query, tuple(documents), **options)
    portal = _Portal.shared()
    return asyncio.run_coroutine_threadsafe(portal.service.rerank(request), portal.loop)


def _wait(future: concurrent.futures.Future[T]) -> T:
    """The future's result; whoever stops waiting stops the work."""
    try:
        return future.result()
    finally:
        future.cancel()


def _start(request: ChatRequest, put: Callable[[_Item], object]) -> concurrent.futures.Future[None]:
    """Run a request on the background loop; `put` gets its events there, then its error or None."""
    portal = _Portal.shared()

    async def run() -> None:
        try:
            async for event in portal.service.chat(request):
                put(event)
            put(None)
        except BaseException as exc:
            put(exc)
            raise

    return asyncio.run_coroutine_threadsafe(run(), portal.loop)


class _Portal:
    """The background event loop and the Service on it."""

    _shared: _Portal | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="localllm", daemon=True)
        self._thread.start()
        self.service = Service(load_settings({}))
        atexit.register(self._close)

    @classmethod
    def shared(cls) -> _Portal:
        """The one of this process."""
        with cls._lock:
            if cls._shared is None:
                cls._shared = cls()
            return cls._shared

    def _close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.service.close(), self.loop).result(timeout=10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=2)
        self.loop.close()


def _request(
    model: str,
    prompt: Prompt,
    system: str | None,
    format: AnyFormat | None,
    sampling: dict[str, Any],
    *,
    tools: Sequence[AnyTool],
    choice: ToolChoice | str,
) -> ChatRequest:
    messages = [Message("user", prompt)] if isinstance(prompt, str) else list(prompt)
    if system is not None:
        messages.insert(0, Message("system", system))
    if isinstance(stop := sampling.get("stop"), str):
        sampling = sampling | {"stop": (stop,)}
    constraint = None if format is None else as_constraint(format)
    return ChatRequest(
        model,
        tuple(messages),
        SamplingParams(**sampling),
        tuple(map(as_tool, tools)),
        as_tool_choice(choice),
        # Who names one tool wants one call of it.
        parallel_tool_calls=not isinstance(choice, str) or choice in ("auto", "none", "required"),
        constraint=constraint,
    )


def _answer(events: list[Event]) -> Answer:
    finished = next(event for event in events if isinstance(event, Finished))
    return Answer(
        text="".join(event.text for event in events if isinstance(event, TextDelta)),
        reasoning="".join(event.text for event in events if isinstance(event, ReasoningDelta)),
        tool_calls=tuple(event.call for event in events if isinstance(event, ToolCallEvent)),
        finish_reason=finished.reason,
        usage=finished.usage,
        timings=finished.timings,
        notices=tuple(event for event in events if isinstance(event, Notice)),
    )
