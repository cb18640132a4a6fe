"""The models of a daemon, over HTTP: what its keeper does with those on disk, what its finder offers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from localllm.api import ModelInfo
from localllm.api.finder import Offer
from localllm.api.keeper import ModelDetails, NewModel
from localllm.client_errors import checked
from localllm.client_http import Response, Upload
from localllm.errors import InvalidRequestError

T = TypeVar("T")


class Ask(Protocol):
    """One question and its answer, a value of `kind`."""

    async def __call__(self, method: str, path: str, body: Any, kind: type[T], /) -> T:
        """Ask it."""
        ...


class Exchange(Protocol):
    """One request whose answer is read in the block."""

    def __call__(
        self, method: str, path: str, *, upload: Upload | None = None
    ) -> AbstractAsyncContextManager[Response]:
        """Send it."""
        ...


class _Offers(msgspec.Struct):
    offers: tuple[Offer, ...]


class HttpKeeper:
    """ModelKeeper of a daemon."""

    def __init__(self, ask: Ask, exchange: Exchange) -> None:
        self._ask = ask
        self._exchange = exchange

    async def info(self, model: str) -> ModelInfo:
        """See ModelKeeper.info."""
        return await self._ask("POST", "info", {"model": model}, ModelInfo)

    async def details(self, model: str, *, tensors: bool = False) -> ModelDetails:
        """See ModelKeeper.details."""
        return await self._ask("POST", "details", {"model": model, "tensors": tensors}, ModelDetails)

    async def copy(self, source: str, target: str) -> None:
        """See ModelKeeper.copy."""
        await self._ask("POST", "copy", {"source": source, "target": target}, dict[str, Any])

    async def remove(self, model: str) -> None:
        """See ModelKeeper.remove."""
        await self._ask("POST", "remove", {"model": model}, dict[str, Any])

    async def create(self, new: NewModel) -> ModelInfo:
        """See ModelKeeper.create."""
        return await self._ask("POST", "create", new, ModelInfo)

    async def has_blob(self, digest: str) -> bool:
        """See ModelKeeper.has_blob."""
        async with self._exchange("HEAD", _blob(digest)) as response:
            if response.status == 404:
                return False
            if response.status == 400:  # a HEAD has no body that says what is wrong
                raise InvalidRequestError(f"{digest[:80]!r} is no digest", param="digest")
            await checked(response)
            return True

    async def put_blob(self, digest: str, data: AsyncIterator[bytes], size_bytes: int | None = None) -> bool:
        """See ModelKeeper.put_blob."""
        if await self.has_blob(digest):
            return False
        async with self._exchange("POST", _blob(digest), upload=Upload(data, size_bytes)) as response:
            await checked(response)
            return response.status == 201


class HttpFinder:
    """ModelFinder of a daemon."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def catalogue(self, query: str = "") -> tuple[Offer, ...]:
        """See ModelFinder.catalogue."""
        path = f"catalogue?query={quote(query, safe='')}" if query else "catalogue"
        return (await self._ask("GET", path, None, _Offers)).offers

    async def offer(self, model: str) -> Offer:
        """See ModelFinder.offer."""
        return await self._ask("POST", "offer", {"model": model}, Offer)


def _blob(digest: str) -> str:
    return f"blobs/{quote(digest, safe=':')}"
