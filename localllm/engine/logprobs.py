"""Log probabilities of tokens, from the logits as llama.cpp gives them, before any sampling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from localllm.api import TokenLogprob
from localllm.binding import C
from localllm.engine.batch import Chunk
from localllm.engine.vocab import Vocab


def logits_of(context: Any, index: int, num_tokens: int) -> npt.NDArray[np.float32]:
    """The logits of output `index` of the last decode; a view that the next decode overwrites. Shape (num_tokens,)."""
    return np.ctypeslib.as_array(C.llama_get_logits_ith(context, index), shape=(num_tokens,))


def token_logprob(vocab: Vocab, logits: npt.NDArray[np.float32], token: int, count: int) -> TokenLogprob:
    """The log probability of `token`, and those of the `count` likeliest."""
    peak = float(logits.max())
    total = peak + math.log(float(np.exp(logits - peak, dtype=np.float64).sum()))
    count = min(count, len(logits))
    best = np.argpartition(logits, -count)[-count:] if count else np.empty(0, np.int64)
    best = best[np.argsort(-logits[best], kind="stable")]
    top = tuple((int(i), vocab.piece(int(i), special=True), float(logits[i]) - total) for i in best)
    return TokenLogprob(token, vocab.piece(token, special=True), float(logits[token]) - total, top)


class PromptScores:
    """The log probabilities of prompts that are being computed, by sequence and position."""

    def __init__(self, vocab: Vocab) -> None:
        self._vocab = vocab
        self._counts: dict[int, int] = {}
        self._scores: dict[int, dict[int, TokenLogprob]] = {}

    def open(self, sequence_id: int, count: int) -> None:
        """Keep the scores of a sequence, each with `count` alternatives."""
        self._counts[sequence_id] = count
        self._scores[sequence_id] = {}

    def read(self, context: Any, chunk: Chunk, index: int) -> None:
        """Take in what the last decode says of a chunk that lies at `index` of its batch."""
        count, scores = self._counts[chunk.sequence_id], self._scores[chunk.sequence_id]
        for at, token in enumerate(chunk.scored):
            logits = logits_of(context, index + at, self._vocab.num_tokens)
            scores[chunk.start + at + 1] = token_logprob(self._vocab, logits, token, count)

    def take(self, sequence_id: int) -> tuple[TokenLogprob, ...]:
        """A sequence's scores, in order from its second token."""
        scores = self._scores.pop(sequence_id, {})
        self._counts.pop(sequence_id, None)
        return tuple(scores[position] for position in sorted(scores))
