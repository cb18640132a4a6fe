"""The native routes about models on disk and to be had, over a real store; and Client, which asks them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.api import SamplingParams
from localllm.api.finder import HasFinder
from localllm.api.keeper import HasKeeper, NewModel
from localllm.client import Client
from localllm.errors import (
    DaemonError,
    DaemonUnreachableError,
    InvalidRequestError,
    LocalLLMError,
    ModelNameError,
    ModelNotFoundError,
)
from localllm.store.store import ModelStore
from tests.clients.conftest import install_model
from tests.daemon.serving import Served, serving
from tests.daemon.test_ollama_store import KeptBackend

API = "/api/localllm/"


@pytest.fixture
def store(tmp_path: Path, tiny_model: Callable[..., Path]) -> ModelStore:
    made = ModelStore(tmp_path / "store")
    install_model(made, "base", tiny_model())
    return made


@pytest.fixture
def daemon(store: ModelStore) -> Iterator[Served]:
    with serving(KeptBackend(store)) as served:
        yield served


def asked(daemon: Served, main: Callable[[Client], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(20):
            return await main(Client(daemon.url))

    return asyncio.run(bounded())


def test_a_client_keeps_the_daemons_models(daemon: Served, store: ModelStore) -> None:
    async def main(client: Client) -> None:
        assert isinstance(client, HasKeeper)
        assert isinstance(client, HasFinder)
        info = await client.keeper.info("base")
        assert info.architecture == "llama"
        details = await client.keeper.details("base", tensors=True)
        assert details.info == info
        assert details.tensors
        await client.keeper.copy("base", "second:v1")
        sampling = SamplingParams(temperature=0.25, stop=("x",))
        made = await client.keeper.create(NewModel("third", source="base", system="Be kind.", sampling=sampling))
        assert made.name == "third"
        assert store.get("third").sampling == sampling
        await client.keeper.remove("second:v1")

    asked(daemon, main)
    assert {manifest.name for manifest in store.list()} == {"base", "third"}


def test_an_upload_of_known_and_of_unknown_length(daemon: Served, store: ModelStore) -> None:
    data = bytes(range(256)) * 1000
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 50_000):
            yield data[start : start + 50_000]

    async def main(client: Client) -> None:
        keeper = client.keeper
        with pytest.raises(InvalidRequestError, match="the bytes are"):
            await keeper.put_blob("sha256:" + "1" * 64, pieces(), len(data))
        with pytest.raises(InvalidRequestError, match="no digest"):
            await keeper.has_blob("sha256:xyz")
        with pytest.raises(DaemonUnreachableError, match="size that was said"):
            await keeper.put_blob(digest, pieces(), len(data) - 1)
        assert await keeper.put_blob(digest, pieces())
        assert not await keeper.put_blob(digest, pieces(), len(data))

    asked(daemon, main)
    assert store.has_blob(digest, len(data))


REFUSED: list[tuple[Callable[[Client], Awaitable[Any]], type[LocalLLMError]]] = [
    (lambda c: c.keeper.info("nobody"), ModelNotFoundError),
    (lambda c: c.keeper.details("./file.gguf"), ModelNotFoundError),
    (lambda c: c.keeper.info("hf:"), ModelNameError),
    (lambda c: c.keeper.copy("base", "hf:owner/repo"), ModelNameError),
    (lambda c: c.keeper.copy("nobody", "x"), ModelNotFoundError),
    (lambda c: c.keeper.remove("nobody"), ModelNotFoundError),
    (lambda c: c.keeper.create(NewModel("x")), InvalidRequestError),
    (lambda c: c.keeper.create(NewModel("x", source="/etc/passwd.gguf")), ModelNotFoundError),
    (lambda c: c.keeper.create(NewModel("x", blobs=(("a", "../../etc/passwd"),))), InvalidRequestError),
    (lambda c: c.keeper.create(NewModel("x", source="base", sampling=SamplingParams(top_p=5))), InvalidRequestError),
    (lambda c: c.keeper.create(NewModel("x", source="base", num_ctx=0)), InvalidRequestError),
    (lambda c: c.keeper.create(NewModel("x", source="base", licence="l" * 300)), InvalidRequestError),
    (lambda c: c.finder.offer("nobody"), ModelNotFoundError),
    (lambda c: c.finder.offer("/etc/passwd.gguf"), ModelNotFoundError),
]


@pytest.mark.parametrize(("ask", "error"), REFUSED)
def test_what_is_refused(daemon: Served, ask: Callable[[Client], Awaitable[Any]], error: type[LocalLLMError]) -> None:
    async def main(client: Client) -> None:
        with pytest.raises(error) as caught:
            await ask(client)
        assert caught.value.message

    asked(daemon, main)


def test_the_catalogue_is_searched_by_the_query(daemon: Served) -> None:
    async def main(client: Client) -> None:
        (found,) = await client.finder.catalogue("smollm2 1.7b")
        assert found.name == "smollm2:1.7b"
        assert found.fit is not None
        assert not await client.finder.catalogue("no such words & here")
        assert len(await client.finder.catalogue()) > 100

    asked(daemon, main)


def test_a_daemon_without_models_of_its_own_says_so() -> None:
    with serving() as daemon:
        for path in ("details", "offer"):
            answer = daemon.ask("POST", API + path, {"model": "x"})
            assert (answer.status, answer.json["error"]["code"]) == (501, "not_supported")

        async def main(client: Client) -> None:
            with pytest.raises(DaemonError, match="no catalogue"):
                await client.finder.catalogue()

        asked(daemon, main)
