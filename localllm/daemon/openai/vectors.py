"""/v1/embeddings and /v1/rerank: bodies, translation and handlers. Rerank has the field names of Jina and Cohere."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from localllm.api import Embeddings, EmbedRequest, Ranking, RerankRequest
from localllm.daemon.dialect import MODEL, Call, Endpoint, Reply, Returns
from localllm.daemon.native import json_reply
from localllm.daemon.openai.bodies import Text, TokenId
from localllm.daemon.openai.requests import prompts
from localllm.daemon.openai.shapes import EmbeddingList, RankingValue
from localllm.errors import InvalidRequestError

MAX_INPUTS = 2048


class EmbeddingBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of /v1/embeddings."""

    input: Text | Annotated[list[Text | TokenId | list[TokenId]], Meta(min_length=1)]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    truncate: bool = False


class Document(msgspec.Struct, frozen=True):
    """A document as an object."""

    text: Text


class RerankBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of /v1/rerank."""

    query: Text
    documents: Annotated[list[Text | Document], Meta(min_length=1, max_length=MAX_INPUTS)]
    model: str | None = None
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool = False
    truncate: bool = False


_embedding_decoder = msgspec.json.Decoder(EmbeddingBody)
_rerank_decoder = msgspec.json.Decoder(RerankBody)


def embed_request(body: EmbeddingBody, default_model: str) -> EmbedRequest:
    """What an embedding body asks for."""
    inputs = tuple(prompts(body.input, "input"))
    if len(inputs) > MAX_INPUTS:
        raise InvalidRequestError(f"{len(inputs)} inputs", hint=f"at most {MAX_INPUTS}", param="input")
    return EmbedRequest(body.model or default_model, inputs, dimensions=body.dimensions, truncate=body.truncate)


def rerank_request(body: RerankBody, default_model: str) -> RerankRequest:
    """What a rerank body asks for."""
    documents = tuple(document if isinstance(document, str) else document.text for document in body.documents)
    return RerankRequest(body.model or default_model, body.query, documents, body.top_n, body.truncate)


def embedding_list(model: str, made: Embeddings, encoding_format: str) -> dict[str, Any]:
    """Vectors in OpenAI's shape; base64 is of little-endian float32."""
    vectors: list[Any] = (
        [base64.b64encode(vector).decode() for vector in made.vectors]
        if encoding_format == "base64"
        else list(made.floats())
    )
    num_tokens = sum(made.num_tokens)
    value = {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)],
        "model": model,
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }
    return value | ({"num_truncated": made.num_truncated} if made.num_truncated else {})


def ranking_value(request: RerankRequest, ranking: Ranking, *, return_documents: bool) -> dict[str, Any]:
    """A ranking, best first."""
    results: list[dict[str, Any]] = [
        {"index": ranked.index, "relevance_score": ranked.score} for ranked in ranking.results
    ]
    if return_documents:
        for result in results:
            result["document"] = {"text": request.documents[result["index"]]}
    usage = {"prompt_tokens": ranking.num_tokens, "total_tokens": ranking.num_tokens}
    value = {"object": "list", "model": request.model, "results": results, "usage": usage}
    return value | ({"num_truncated": ranking.num_truncated} if ranking.num_truncated else {})


async def embeddings(call: Call) -> Reply:
    """Texts to vectors."""
    daemon = call.daemon
    body = await daemon.bodies.read_json(call.request, _embedding_decoder)
    request = embed_request(body, daemon.default_model)
    with daemon.place(request.model, call.caller):
        made = await daemon.backend.embed(request)
    return json_reply(embedding_list(request.model, made, body.encoding_format))


async def rerank(call: Call) -> Reply:
    """Documents by how well they answer a query."""
    daemon = call.daemon
    body = await daemon.bodies.read_json(call.request, _rerank_decoder)
    request = rerank_request(body, daemon.default_model)
    with daemon.place(request.model, call.caller):
        ranking = await daemon.backend.rerank(request)
    return json_reply(ranking_value(request, ranking, return_documents=body.return_documents))


_VECTORS = (Returns(EmbeddingList),)
_RANKING = (Returns(RankingValue),)
ENDPOINTS = (
    Endpoint("POST", "/v1/embeddings", embeddings, body=EmbeddingBody, returns=_VECTORS, fails=MODEL),
    Endpoint("POST", "/v1/rerank", rerank, body=RerankBody, returns=_RANKING, fails=MODEL),
    Endpoint("POST", "/rerank", rerank, body=RerankBody, returns=_RANKING, fails=MODEL),
)
