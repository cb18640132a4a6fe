"""Embeddings by real children: as sentence-transformers makes them, cut, and refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from localllm.api import (
    ChatRequest,
    CompletionRequest,
    Embeddings,
    EmbedRequest,
    Message,
    RerankRequest,
)
from localllm.config import Settings
from localllm.errors import ContextLengthError, InvalidRequestError
from localllm.service import Service
from tests.engine.conftest import run
from tests.minilm_sentences import ENGLISH, SENTENCES, VECTORS

Rows = npt.NDArray[np.float64]


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    opened = Service(Settings(offline=True, device="cpu"))
    try:
        yield opened
    finally:
        await opened.close()


def rows_of(embeddings: Embeddings) -> Rows:
    return np.array(embeddings.floats())


def cosines(mine: Rows, theirs: Rows) -> Rows:
    lengths = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
    product: Rows = (mine * theirs).sum(1) / lengths
    return product


@pytest.mark.minilm
def test_a_hundred_texts_get_the_vectors_of_sentence_transformers(minilm_path: Path) -> None:
    reference = np.load(VECTORS).astype(np.float64)
    assert len(SENTENCES) == len(reference) == 100

    async def main() -> None:
        async with service() as backend:
            embeddings = await backend.embed(EmbedRequest(str(minilm_path), SENTENCES, truncate=True))
        assert embeddings.num_dimensions == 384
        assert embeddings.num_truncated == 1
        found = cosines(rows_of(embeddings), reference)
        assert found.min() >= 0.999, SENTENCES[int(found.argmin())]
        assert np.linalg.norm(rows_of(embeddings), axis=1) == pytest.approx(1, abs=1e-6)

    run(main)


@pytest.mark.minilm
def test_together_or_alone_the_vectors_are_the_same(minilm_path: Path) -> None:
    texts = SENTENCES[:64]

    async def main() -> None:
        async with service() as backend:
            together = rows_of(await backend.embed(EmbedRequest(str(minilm_path), texts)))
            requests = (EmbedRequest(str(minilm_path), (text,)) for text in texts)
            alone = np.concatenate([rows_of(answer) for answer in await asyncio.gather(*map(backend.embed, requests))])
        assert cosines(together, alone).min() > 0.99999

    run(main)


@pytest.mark.minilm
def test_dimensions_pooling_and_length_are_as_asked(minilm_path: Path) -> None:
    async def main() -> None:
        async with service() as backend:

            async def embed(**options: Any) -> Rows:
                return rows_of(await backend.embed(EmbedRequest(str(minilm_path), ENGLISH[:4], **options)))

            whole = await embed()
            cut = await embed(dimensions=64)
            assert cut.shape == (4, 64)
            assert np.linalg.norm(cut, axis=1) == pytest.approx(1, abs=1e-6)
            assert cosines(cut, whole[:, :64]).min() > 0.999999
            raw = await embed(normalize=False)
            assert abs(np.linalg.norm(raw, axis=1) - 1).min() > 0.1
            assert cosines(raw, whole).min() > 0.999999
            first = await embed(pooling="cls")
            assert cosines(first, whole).max() < 0.99
            assert cosines(await embed(pooling="mean"), whole).min() > 0.999999

    run(main)


@pytest.mark.minilm
def test_tokens_are_taken_as_they_are_and_text_becomes_no_control_token(minilm_path: Path) -> None:
    async def main() -> None:
        async with service() as backend:
            name = str(minilm_path)
            tokens = await backend.tokenize(name, "The cat sits on the mat.")
            text = await backend.embed(EmbedRequest(name, ("The cat sits on the mat.",)))
            ids = await backend.embed(EmbedRequest(name, ((101, *tokens, 102),)))
            assert text.num_tokens == ids.num_tokens == (len(tokens) + 2,)
            assert text.vectors == ids.vectors
            assert 102 not in await backend.tokenize(name, "an [SEP] inside")
            with pytest.raises(InvalidRequestError, match="token id 30522"):
                await backend.embed(EmbedRequest(name, ((30522,),)))

    run(main)


@pytest.mark.minilm
def test_a_text_that_is_too_long_is_named_or_cut_when_asked(minilm_path: Path) -> None:
    async def main() -> None:
        async with service() as backend:
            request = EmbedRequest(str(minilm_path), ("short", "word " * 600))
            with pytest.raises(ContextLengthError, match="input 1 has 602 tokens") as caught:
                await backend.embed(request)
            assert caught.value.facts == {"num_prompt_tokens": 602, "num_ctx": 512}
            cut = await backend.embed(EmbedRequest(request.model, request.inputs, truncate=True))
            assert (cut.num_tokens, cut.num_truncated) == ((3, 512), 1)
            fits = await backend.embed(EmbedRequest(request.model, ("word " * 510,)))
            assert fits.num_truncated == 0
            assert cosines(rows_of(cut)[1:], rows_of(fits)).min() > 0.99999

    run(main)


@pytest.mark.minilm
def test_what_makes_no_sense_is_refused_by_name(minilm_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"inputs": ()}, "nothing to embed"),
        ({"inputs": ("a", "")}, "input 1 is empty"),
        ({"inputs": (" \n\t",)}, "input 0 is empty"),
        ({"inputs": ("a", ())}, "input 1 is empty"),
        ({"dimensions": 385}, "385 dimensions"),
        ({"dimensions": 0}, "0 dimensions"),
        ({"pooling": "max"}, "no pooling 'max'"),
        ({"inputs": ("x",) * 100_000}, "100000 inputs"),
    ]

    async def main() -> None:
        async with service() as backend:
            for changes, message in cases:
                fields: dict[str, Any] = {"model": str(minilm_path), "inputs": ("a",)} | changes
                with pytest.raises(InvalidRequestError, match=message) as caught:
                    await backend.embed(EmbedRequest(**fields))
                assert caught.value.hint
            assert (await backend.embed(EmbedRequest(str(minilm_path), ("a",)))).num_dimensions == 384

    run(main)


@pytest.mark.minilm
def test_what_it_was_not_made_for_is_refused_with_a_hint(minilm_path: Path) -> None:
    async def main() -> None:
        async with service() as backend:
            name = str(minilm_path)
            with pytest.raises(InvalidRequestError, match="it cannot chat") as caught:
                [event async for event in backend.chat(ChatRequest(name, (Message("user", "hi"),)))]
            assert "localllm embed" in str(caught.value.hint)
            with pytest.raises(InvalidRequestError, match="it cannot continue a text"):
                [event async for event in backend.complete(CompletionRequest(name, "hi"))]
            with pytest.raises(InvalidRequestError, match="does not rank"):
                await backend.rerank(RerankRequest(name, "hi", ("a",)))

    run(main)
