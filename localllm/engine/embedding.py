"""From an EmbedRequest to a PooledJob, and from vectors to Embeddings. Runs in the child's preparer, computes nothing.

Everything that llama.cpp would abort on is refused here, by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from localllm.api import Embeddings, EmbedRequest
from localllm.engine import frames
from localllm.engine.frames import LoadSpec, Pooling
from localllm.engine.pooled_work import PooledJob, Vector
from localllm.engine.vocab import Vocab
from localllm.errors import ContextLengthError, EngineError, InvalidRequestError
from localllm.text.segments import Segment
from localllm.text.tokens import Encoder

# What comes back must fit into one frame.
MAX_ANSWER_BYTES = 128 * 2**20


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """Texts to the token ids that a pooling model wants: between its own opening and closing tokens."""

    vocab: Vocab
    encoder: Encoder
    num_ctx: int

    @property
    def opening(self) -> list[int]:
        """What goes before a text."""
        return [self.vocab.bos] if self.vocab.add_bos and self.vocab.bos is not None else []

    @property
    def closing(self) -> list[int]:
        """What goes behind a text: a WordPiece vocabulary always closes, others where they say so."""
        if self.vocab.is_wordpiece:
            return _present(self.vocab.sep if self.vocab.sep is not None else self.vocab.eos)
        return _present(self.vocab.eos) if self.vocab.add_eos else []

    @property
    def between(self) -> list[int]:
        """What goes between two texts of a pair."""
        ends = self.vocab.eos if self.vocab.eos is not None else self.vocab.sep
        between = (_present(ends) if self.vocab.add_eos else []) + (
            _present(self.vocab.sep) if self.vocab.add_sep else []
        )
        return between or self.closing

    def plain(self, text: str) -> list[int]:
        """Token ids of a text alone. Nothing in it becomes a control token."""
        return self.encoder.encode([Segment(text, False)], add_bos=False)


def embed_job(request_id: int, request: EmbedRequest, encoder: TextEncoder, spec: LoadSpec, num_embd: int) -> PooledJob:
    """Check and tokenize. Raises InvalidRequestError and ContextLengthError, which name the input."""
    pooling = choose_pooling(request.pooling, spec)
    if not request.inputs:
        raise InvalidRequestError("nothing to embed", hint="give at least one text")
    dimensions = request.dimensions
    if dimensions is not None and not 1 <= dimensions <= num_embd:
        hint = f"this model's vectors have {num_embd} dimensions; ask for 1 to {num_embd}"
        raise InvalidRequestError(f"{dimensions} dimensions", hint=hint, dimensions=dimensions, num_dimensions=num_embd)
    if len(request.inputs) * 4 * (dimensions or num_embd) > MAX_ANSWER_BYTES:
        most = MAX_ANSWER_BYTES // (4 * (dimensions or num_embd))
        raise InvalidRequestError(f"{len(request.inputs)} inputs", hint=f"at most {most} in one request")
    inputs: list[list[int]] = []
    num_truncated = 0
    for index, item in enumerate(request.inputs):
        tokens, cut = _tokens(item, index, encoder, truncate=request.truncate)
        inputs.append(tokens)
        num_truncated += cut

    def finish(vectors: list[Vector]) -> frames.Answer:
        return frames.Embedded(
            request_id,
            Embeddings(
                vectors=finished(vectors, dimensions, normalize=request.normalize),
                num_dimensions=dimensions or num_embd,
                num_tokens=tuple(map(len, inputs)),
                num_truncated=num_truncated,
            ),
        )

    return PooledJob(request_id, pooling, inputs, finish)


def choose_pooling(wanted: str | None, spec: LoadSpec) -> Pooling:
    """How the vectors of a text's tokens become one: as asked, else as the model was trained."""
    known: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "last": "last"}
    if spec.task == "rerank":
        hint = "rank documents with it (`localllm rerank`), or embed with an embedding model"
        raise InvalidRequestError("this model ranks documents, it gives no embeddings", hint=hint)
    if wanted is not None and wanted not in known:
        raise InvalidRequestError(f"no pooling {wanted!r}", hint=f"there are {', '.join(known)}", pooling=wanted)
    pooling = known.get(wanted or spec.pooling or "")
    if pooling is None:
        hint = 'use an embedding model, or ask for a pooling, such as "mean"'
        raise InvalidRequestError("this model is not made for embeddings: its file names no pooling", hint=hint)
    if pooling == "cls" and spec.is_causal:
        hint = 'ask for "last" or "mean"'
        raise InvalidRequestError("cls pooling of a model whose first token sees no other", hint=hint, pooling=pooling)
    return pooling


def finished(vectors: list[Vector], dimensions: int | None, *, normalize: bool) -> tuple[bytes, ...]:
    """Cut vectors to their first `dimensions`, scale them to length 1, and pack them as little-endian float32.

    A vector of zeros has no direction and stays. Raises EngineError where numbers are none.
    """
    rows = np.stack(vectors)[:, :dimensions].astype(np.float64)
    if not np.isfinite(rows).all():
        raise EngineError("the model gave vectors with numbers that are none", hint="its file may be damaged")
    if normalize:
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows / np.where(lengths == 0, 1, lengths)
    return tuple(row.tobytes() for row in rows.astype("<f4"))


def too_long(what: str, num_tokens: int, num_ctx: int) -> ContextLengthError:
    """The error for a text that does not fit."""
    return ContextLengthError(
        f"{what} has {num_tokens} tokens, the model takes {num_ctx}",
        hint="shorten it, or ask for truncate",
        num_prompt_tokens=num_tokens,
        num_ctx=num_ctx,
    )


def _tokens(item: str | Sequence[int], index: int, encoder: TextEncoder, *, truncate: bool) -> tuple[list[int], bool]:
    """One input's tokens, and whether its end was cut off. Token ids are taken as they are."""
    if isinstance(item, str):
        inner, opening, closing = encoder.plain(item), encoder.opening, encoder.closing
    else:
        inner, opening, closing = list(item), [], []
        encoder.vocab.check(inner)
    if not inner:
        raise InvalidRequestError(f"input {index} is empty", hint="leave it out, or give it some text", index=index)
    num_tokens = len(opening) + len(inner) + len(closing)
    if num_tokens <= encoder.num_ctx:
        return [*opening, *inner, *closing], False
    if not truncate:
        raise too_long(f"input {index}", num_tokens, encoder.num_ctx)
    room = encoder.num_ctx - len(opening) - len(closing)
    return [*opening, *inner[:room], *closing], True


def _present(token: int | None) -> list[int]:
    return [] if token is None else [token]
