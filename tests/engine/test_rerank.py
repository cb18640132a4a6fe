"""Reranking by real children over tiny models: scores as computed in numpy, probabilities, order, batches, errors."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from localllm.api import EmbedRequest, RerankRequest
from localllm.config import Settings
from localllm.errors import ContextLengthError, InvalidRequestError
from localllm.service import Service
from tests.engine.conftest import run
from tests.tiny_encoders import (
    cross_encoder_score,
    cross_encoder_tensors,
    write_cross_encoder,
    write_qwen3_reranker,
)

QUERY = "which document is it"


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cross_encoder(tmp_path_factory.mktemp("models") / "cross.gguf")


@pytest.fixture(scope="module", params=[True, False], ids=["pools", "answers"])
def yes_or_no(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "Qwen3-Reranker.gguf"
    return write_qwen3_reranker(path, pools=request.param)


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    opened = Service(Settings(offline=True, device="cpu"))
    try:
        yield opened
    finally:
        await opened.close()


def documents(count: int, seed: int = 1, most: int = 20) -> tuple[str, ...]:
    rng = random.Random(seed)
    return tuple(
        " ".join("".join(rng.choices("abcdefghij", k=rng.randint(1, 6))) for _ in range(rng.randint(1, most)))
        for _ in range(count)
    )


async def scores(backend: Service, model: Path, docs: tuple[str, ...], **options: Any) -> list[float]:
    """Scores in the order of the documents."""
    ranking = await backend.rerank(RerankRequest(str(model), QUERY, docs, **options))
    assert sorted(ranked.index for ranked in ranking.results) == list(range(len(docs)))
    assert [r.score for r in ranking.results] == sorted((r.score for r in ranking.results), reverse=True)
    return [ranked.score for ranked in sorted(ranking.results, key=lambda ranked: ranked.index)]


def test_a_cross_encoder_scores_as_its_weights_say(cross_encoder: Path) -> None:
    docs = documents(40)
    tensors = cross_encoder_tensors()
    expected = [cross_encoder_score(tensors, QUERY, document) for document in docs]
    assert max(expected) - min(expected) > 0.3

    async def main() -> None:
        async with service() as backend:
            ranking = await backend.rerank(RerankRequest(str(cross_encoder), QUERY, docs))
            assert not ranking.is_probability
            # Keys and values are rounded to half precision on the way.
            assert await scores(backend, cross_encoder, docs) == pytest.approx(expected, abs=5e-3)

    run(main)


def test_yes_or_no_becomes_a_probability(yes_or_no: Path) -> None:
    docs = documents(24, seed=4)

    async def main() -> None:
        async with service() as backend:
            ranking = await backend.rerank(RerankRequest(str(yes_or_no), QUERY, docs, top_n=5))
            assert ranking.is_probability
            assert len(ranking.results) == 5
            together = await scores(backend, yes_or_no, docs)
            assert all(0 <= score <= 1 for score in together)
            assert max(together) - min(together) > 0.05
            alone = [(await scores(backend, yes_or_no, (document,)))[0] for document in docs]
            assert together == pytest.approx(alone, abs=1e-4)
            long = " ".join(documents(60, seed=5, most=3))  # longer than one batch: computed in parts
            assert 0 <= (await scores(backend, yes_or_no, (long,)))[0] <= 1

    run(main)


def test_a_classifier_and_a_language_model_of_the_same_weights_agree(tmp_path: Path) -> None:
    docs = (*documents(12, seed=6), " ".join(documents(60, seed=7, most=3)))
    pools = write_qwen3_reranker(tmp_path / "pools-Qwen3-Reranker.gguf", pools=True)
    answers = write_qwen3_reranker(tmp_path / "answers-Qwen3-Reranker.gguf", pools=False)

    async def main() -> None:
        async with service() as backend:
            assert await scores(backend, answers, docs) == pytest.approx(await scores(backend, pools, docs), abs=2e-4)

    run(main)


def test_control_tokens_in_a_document_are_text(yes_or_no: Path) -> None:
    async def main() -> None:
        async with service() as backend:

            async def num_tokens(document: str) -> int:
                return (await backend.rerank(RerankRequest(str(yes_or_no), QUERY, (document,)))).num_tokens

            assert await num_tokens("<|im_end|>") == await num_tokens("x" * len("<|im_end|>"))

    run(main)


def test_a_document_that_is_too_long_is_named_or_cut_when_asked(cross_encoder: Path, yes_or_no: Path) -> None:
    async def main() -> None:
        async with service() as backend:
            for model, most in ((cross_encoder, 256), (yes_or_no, 2048)):
                docs = ("short", "ab " * most)
                with pytest.raises(ContextLengthError, match="document 1") as caught:
                    await backend.rerank(RerankRequest(str(model), QUERY, docs))
                assert caught.value.facts["num_ctx"] == most
                assert caught.value.facts["num_prompt_tokens"] > most
                ranking = await backend.rerank(RerankRequest(str(model), QUERY, docs, truncate=True))
                assert ranking.num_truncated == 1
                with pytest.raises(ContextLengthError, match="the query"):
                    await backend.rerank(RerankRequest(str(model), "ab " * most, docs, truncate=True))

    run(main)


def test_what_makes_no_sense_is_refused_by_name(cross_encoder: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"query": "  "}, "the query is empty"),
        ({"documents": ()}, "no documents"),
        ({"documents": ("a", " \n")}, "document 1 is empty"),
        ({"top_n": 0}, "top_n is 0"),
    ]

    async def main() -> None:
        async with service() as backend:
            for changes, message in cases:
                fields: dict[str, Any] = {"model": str(cross_encoder), "query": QUERY, "documents": ("a",)} | changes
                with pytest.raises(InvalidRequestError, match=message) as caught:
                    await backend.rerank(RerankRequest(**fields))
                assert caught.value.hint
            with pytest.raises(InvalidRequestError, match="gives no embeddings") as caught:
                await backend.embed(EmbedRequest(str(cross_encoder), ("a",)))
            assert "rerank" in str(caught.value.hint)
            good = await backend.rerank(RerankRequest(str(cross_encoder), QUERY, ("a",)))
            assert len(good.results) == 1

    run(main)


def test_a_context_of_odd_length_loads(tmp_path: Path) -> None:
    """llama.cpp asserts on a batch that its number of sequences does not divide."""
    path = write_cross_encoder(tmp_path / "odd.gguf", num_ctx=601)

    async def main() -> None:
        async with service() as backend:
            ranking = await backend.rerank(RerankRequest(str(path), QUERY, ("ab " * 280, "a")))
            assert ranking.num_tokens > 580

    run(main)
