"""Client: the Backend over HTTP. The methods of Service, the same values and the same errors, from a running daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from localllm.api import (
    ChatRequest,
    CompletionRequest,
    Control,
    Embeddings,
    EmbedRequest,
    Event,
    LoadedModel,
    ModelInfo,
    Notice,
    Progress,
    Ranking,
    Rendered,
    RerankRequest,
    Status,
)
from localllm.client_errors import ErrorBody, checked, error_of
from localllm.client_http import Address, Response, Upload, exchange
from localllm.client_models import HttpFinder, HttpKeeper
from localllm.errors import DaemonError

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:11435"
# A daemon that streams says something every 15 seconds.
_SILENCE_S = 60.0
_MAX_EVENT_BYTES = 256 << 20
_PREFIX = "/api/localllm/"


class _Models(msgspec.Struct):
    models: list[Any]


class _Tokens(msgspec.Struct):
    tokens: list[int]


class _Lines(msgspec.Struct):
    lines: list[str]


class _Text(msgspec.Struct):
    text: str


class Client:
    """The daemon at `url`: `http://HOST:PORT`, or `unix:PATH`. `key`: the one it wants, where it wants one.

    Models, files and settings are the daemon's. `close` ends nothing there.
    """

    def __init__(self, url: str = DEFAULT_URL, *, key: str | None = None) -> None:
        self.url = url
        self._address = Address.parse(url)
        self._headers = {"accept": "*/*", "user-agent": "localllm"}
        if key is not None:
            self._headers["authorization"] = f"Bearer {key}"

    # --- Backend --------------------------------------------------------------------------------------------------

    async def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        """See Backend.chat."""
        async for event in self._stream("chat", request, _event_decoder):
            yield event

    async def complete(self, request: CompletionRequest) -> AsyncIterator[Event]:
        """See Backend.complete."""
        async for event in self._stream("complete", request, _event_decoder):
            yield event

    async def tokenize(self, model: str, text: str, *, parse_special: bool = False) -> list[int]:
        """See Backend.tokenize."""
        body = {"model": model, "text": text, "parse_special": parse_special}
        return (await self._ask("POST", "tokenize", body, _Tokens)).tokens

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        """See Backend.detokenize."""
        return (await self._ask("POST", "detokenize", {"model": model, "tokens": list(tokens)}, _Text)).text

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """See Backend.embed."""
        return await self._ask("POST", "embed", request, Embeddings)

    async def rerank(self, request: RerankRequest) -> Ranking:
        """See Backend.rerank."""
        return await self._ask("POST", "rerank", request, Ranking)

    async def list_models(self) -> list[ModelInfo]:
        """See Backend.list_models."""
        return msgspec.convert((await self._ask("GET", "models", None, _Models)).models, list[ModelInfo])

    async def list_loaded(self) -> list[LoadedModel]:
        """See Backend.list_loaded."""
        return msgspec.convert((await self._ask("GET", "loaded", None, _Models)).models, list[LoadedModel])

    async def render(self, request: ChatRequest) -> Rendered:
        """See Backend.render."""
        return await self._ask("POST", "render", request, Rendered)

    async def control(self, request_id: str, control: Control) -> bool:
        """See Backend.control."""
        async with self._exchange("POST", "control", {"id": request_id, "control": control}, None) as response:
            if response.status == 404:
                return False
            await checked(response)
            return True

    async def load(
        self,
        model: str,
        *,
        keep_alive_s: float | None = None,
        pin: bool | None = None,
        num_ctx: int | None = None,
    ) -> AsyncIterator[Progress | Notice]:
        """See Backend.load."""
        body = {"model": model, "keep_alive_s": keep_alive_s, "pin": pin, "num_ctx": num_ctx}
        async for news in self._stream("load", body, _news_decoder):
            yield news

    async def pull(self, model: str) -> AsyncIterator[Progress]:
        """See Backend.pull. The daemon downloads, into its own store."""
        async for progress in self._stream("pull", {"model": model}, _progress_decoder):
            yield progress

    async def unload(self, model: str) -> None:
        """See Backend.unload."""
        await self._ask("POST", "unload", {"model": model}, dict[str, Any])

    async def close(self) -> None:
        """See Backend.close. Every request has its own connection, so nothing is left open."""

    @property
    def keeper(self) -> HttpKeeper:
        """The daemon's models on disk."""
        return HttpKeeper(self._ask, self._exchange)

    @property
    def finder(self) -> HttpFinder:
        """What the daemon may pull, judged by its machine."""
        return HttpFinder(self._ask)

    # --- the daemon -----------------------------------------------------------------------------------------------

    async def status(self) -> AsyncIterator[Status]:
        """What the daemon does: at once, and whenever that changes."""
        async for status in self._stream("status", None, _status_decoder):
            yield status

    async def props(self) -> dict[str, Any]:
        """The daemon's version, limits and default model."""
        return await self._ask("GET", "props", None, dict[str, Any])

    async def log(self) -> list[str]:
        """See Watched.log."""
        return (await self._ask("GET", "log", None, _Lines)).lines

    async def reload(self) -> None:
        """Let the daemon read its keys, settings and catalogue again."""
        await self._ask("POST", "reload", {}, dict[str, Any])

    async def inspect(self, request_id: str | None = None) -> Any:
        """The last requests, or one of them whole, as plain JSON values; for a daemon that runs with `--inspect`."""
        path = "inspect" if request_id is None else f"inspect/{quote(request_id, safe='')}"
        return await self._ask("GET", path, None, dict[str, Any])

    async def replay(self, request_id: str) -> AsyncIterator[Event]:
        """Ask again what `inspect` shows, with its seed."""
        async for event in self._stream(f"inspect/{quote(request_id, safe='')}/replay", {}, _event_decoder):
            yield event

    # --- HTTP -----------------------------------------------------------------------------------------------------

    async def _ask(self, method: str, path: str, body: Any, kind: type[T]) -> T:
        async with self._exchange(method, path, body, None) as response:
            data = await checked(response)
            try:
                return msgspec.json.decode(data, type=kind)
            except msgspec.DecodeError as exc:
                raise self._foreign(exc) from exc

    async def _stream(self, path: str, body: Any, decoder: msgspec.json.Decoder[T]) -> AsyncIterator[T]:
        """The events of a stream. Closing the iterator ends the request."""
        async with self._exchange("GET" if body is None else "POST", path, body, _SILENCE_S) as response:
            if response.status != 200:
                await checked(response)
            async for kind, data in _sse(response.body):
                try:
                    if kind == b"error":
                        raise error_of(msgspec.json.decode(data, type=ErrorBody).error)
                    yield decoder.decode(data)
                except msgspec.DecodeError as exc:
                    raise self._foreign(exc) from exc

    def _exchange(
        self, method: str, path: str, body: Any = None, silence_s: float | None = None, upload: Upload | None = None
    ) -> AbstractAsyncContextManager[Response]:
        data = None if body is None else msgspec.json.encode(body)
        path, headers = _PREFIX + path, self._headers
        return exchange(self._address, method, path, data, headers=headers, silence_s=silence_s, upload=upload)

    def _foreign(self, exc: Exception) -> DaemonError:
        return DaemonError(f"{self.url} answers in a way this version does not know: {exc}", hint="are both the same?")


_event_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_news_decoder: msgspec.json.Decoder[Progress | Notice] = msgspec.json.Decoder(Progress | Notice)
_progress_decoder: msgspec.json.Decoder[Progress] = msgspec.json.Decoder(Progress)
_status_decoder: msgspec.json.Decoder[Status] = msgspec.json.Decoder(Status)


async def _sse(pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
    """The events of a stream: their name, empty for most, and their data. Comments are passed over."""
    buffer = bytearray()
    async for piece in pieces:
        buffer += piece
        if len(buffer) > _MAX_EVENT_BYTES:
            raise DaemonError(f"an event of more than {_MAX_EVENT_BYTES} bytes")
        *whole, rest = bytes(buffer).split(b"\n\n")
        buffer = bytearray(rest)
        for block in whole:
            name = data = b""
            for line in block.split(b"\n"):
                if line.startswith(b"data: "):
                    data = line[6:]
                elif line.startswith(b"event: "):
                    name = line[7:]
            if data:
                yield name, data
