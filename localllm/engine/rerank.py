"""From a RerankRequest to a PooledJob, and from what the model says of each pair to a Ranking. Runs in the preparer.

A cross-encoder reads query and document between the vocabulary's own separators; its score has no fixed range. A model
that answers in words reads a prompt; its score is the probability of "yes" against "no".
"""

from __future__ import annotations

import math
from collections.abc import Callable

from localllm.api import Ranked, Ranking, RerankRequest
from localllm.engine import frames
from localllm.engine.embedding import TextEncoder, too_long
from localllm.engine.frames import LoadSpec
from localllm.engine.pooled_work import PooledJob, Vector
from localllm.engine.vocab import Vocab
from localllm.errors import EngineError, EngineLoadError, InvalidRequestError
from localllm.text.rerank import NO, QWEN3_RERANK, YES, rerank_prompt

MAX_DOCUMENTS = 65536

Pair = Callable[[str], list[int]]


def rerank_job(
    request_id: int, request: RerankRequest, encoder: TextEncoder, spec: LoadSpec, template: str | None
) -> PooledJob:
    """Check and tokenize; `template` is the model's own "rerank" one. Errors name the document they are about."""
    _check(request, spec)
    asks = template is not None or spec.pooling != "rank"
    make = _prompts(request, encoder, template or QWEN3_RERANK) if asks else _pairs(request, encoder)
    inputs: list[list[int]] = []
    num_truncated = 0
    for index, document in enumerate(request.documents):
        tokens = make(document)
        if len(tokens) > encoder.num_ctx:
            if not request.truncate:
                raise too_long(f"document {index} with the query", len(tokens), encoder.num_ctx)
            tokens = _cut(make, document, encoder.num_ctx)
            num_truncated += 1
        inputs.append(tokens)

    def finish(vectors: list[Vector]) -> frames.Answer:
        scores = [float(vector[0]) if spec.pooling == "rank" else yes_probability(*vector[:2]) for vector in vectors]
        if not all(map(math.isfinite, scores)):
            raise EngineError("the model gave scores that are no numbers", hint="its file may be damaged")
        best = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[: request.top_n]
        ranking = Ranking(
            results=tuple(Ranked(index, scores[index]) for index in best),
            num_tokens=sum(map(len, inputs)),
            is_probability=spec.gives_probability,
            num_truncated=num_truncated,
        )
        return frames.Ranks(request_id, ranking)

    return PooledJob(request_id, "rank" if spec.pooling == "rank" else "yes_no", inputs, finish)


def answer_tokens(vocab: Vocab) -> tuple[int, int]:
    """The tokens of "yes" and "no". Raises EngineLoadError for a vocabulary that spells them."""
    found = [vocab.tokenize(word) for word in (YES, NO)]
    if any(len(tokens) != 1 for tokens in found):
        raise EngineLoadError('this model cannot rank: its vocabulary has no tokens for "yes" and "no"')
    return found[0][0], found[1][0]


def yes_probability(yes: float, no: float) -> float:
    """The probability of yes, from the logits of both."""
    return 1 / (1 + math.exp(min(700.0, float(no) - float(yes))))


def _check(request: RerankRequest, spec: LoadSpec) -> None:
    if spec.task != "rerank":
        hint = "use a reranking model"
        hint += ", or embed query and documents and compare" if spec.task == "embed" else ""
        raise InvalidRequestError("this model does not rank documents", hint=hint)
    if not request.query.strip():
        raise InvalidRequestError("the query is empty", hint="say what the documents should answer")
    if not request.documents:
        raise InvalidRequestError("no documents to rank", hint="give at least one")
    if len(request.documents) > MAX_DOCUMENTS:
        raise InvalidRequestError(f"{len(request.documents)} documents", hint=f"at most {MAX_DOCUMENTS}")
    if request.top_n is not None and request.top_n < 1:
        raise InvalidRequestError(f"top_n is {request.top_n}", hint="top_n is at least 1", top_n=request.top_n)
    for index, document in enumerate(request.documents):
        if not document.strip():
            raise InvalidRequestError(f"document {index} is empty", hint="leave it out", index=index)


def _pairs(request: RerankRequest, encoder: TextEncoder) -> Pair:
    """Query and document as a cross-encoder was trained on them."""
    head = [*encoder.opening, *encoder.plain(request.query), *encoder.between]
    return lambda document: [*head, *encoder.plain(document), *encoder.closing]


def _prompts(request: RerankRequest, encoder: TextEncoder, template: str) -> Pair:
    """Query and document in a prompt; the vocabulary's opening token only where it wants one."""
    return lambda document: encoder.encoder.encode(rerank_prompt(template, request.query, document))


def _cut(make: Pair, document: str, num_ctx: int) -> list[int]:
    """The tokens with as much of the document's beginning as fits. Raises ContextLengthError if nothing does."""
    low, high = 0, len(document)
    best = make("")
    if len(best) >= num_ctx:
        raise too_long("the query", len(best), num_ctx)
    while low < high:
        middle = (low + high + 1) // 2
        tokens = make(document[:middle])
        if len(tokens) <= num_ctx:
            low, best = middle, tokens
        else:
            high = middle - 1
    return best
