"""What llama.cpp makes of whole texts: a vector or scores for each sequence of a batch, in contexts of their own.

llama.cpp asserts, and so ends the process, on batches that are too long for it and on positions or sequences that do
not exist; `PooledContext.run` checks all of that first.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from localllm.binding import C
from localllm.engine.frames import LoadSpec, Pooling
from localllm.engine.pooled_work import MAX_SEQUENCES, Part, Vector
from localllm.errors import EngineError, EngineLoadError

# llama.cpp's numbers of what it pools; "yes_no" is ours: logits of two tokens after the last one, nothing pooled.
POOLINGS: dict[Pooling, int] = {"mean": 1, "cls": 2, "last": 3, "rank": 4, "yes_no": 0}

# Tokens that one pass can hold at least. Models that also make text compute every token's logits on the way, which need
# memory.
ENCODER_BATCH = 512
DECODER_BATCH = 256
# Encoders attend over all tokens of a pass, whosesoever they are: passes of about this many are fastest.
ENCODER_BUDGET = 192
# Flash attention adds up in half precision, which scores show; without it memory grows with the square of the context.
EXACT_CTX = 2048
CELL_STEP = 256  # also a multiple of MAX_SEQUENCES: llama.cpp asserts on a batch that its sequences do not divide


class PooledContext:
    """One llama.cpp context that pools. `num_batch` bounds the tokens of a run, `num_ctx` those of a sequence.

    Runs of about `budget` tokens, or one sequence that is longer, are the fastest.

    With `takes_parts` a sequence may come in several runs, its memory kept until `clear`; without, whole.
    """

    def __init__(
        self, model: Any, spec: LoadSpec, pooling: Pooling, num_ctx: int, answers: tuple[int, int] = (0, 0)
    ) -> None:
        self.num_ctx = num_ctx
        self._answers = list(answers)
        self._num_vocab: int = C.llama_vocab_n_tokens(C.llama_model_get_vocab(model))
        self._encode = C.llama_decode if C.llama_model_has_decoder(model) else C.llama_encode
        # What is not causal looks at all tokens at once: one pass must hold them all.
        self.num_batch = DECODER_BATCH if spec.is_causal else _padded(max(ENCODER_BATCH, num_ctx))
        self.budget = self.num_batch if spec.is_causal else ENCODER_BUDGET
        params = C.llama_context_default_params()
        params.n_ctx = _padded(max(num_ctx, self.num_batch))
        params.n_batch = params.n_ubatch = self.num_batch
        params.n_seq_max = MAX_SEQUENCES
        params.kv_unified = True
        params.embeddings = pooling != "yes_no"
        params.n_outputs_max = MAX_SEQUENCES if pooling == "yes_no" else 0
        params.pooling_type = POOLINGS[pooling]
        params.flash_attn_type = _flash_attention(spec, pooling, num_ctx)
        params.n_threads = params.n_threads_batch = spec.num_threads_batch or spec.num_threads
        params.no_perf = True
        self._context = C.llama_init_from_model(model, params)
        if not self._context:
            raise EngineLoadError(f"no memory to embed texts of {num_ctx} tokens", hint="ask for less context (--ctx)")
        self._memory = C.llama_get_memory(self._context)
        self.takes_parts = bool(self._memory) and spec.is_causal
        self._pooled = pooling != "yes_no"
        self._num_values = C.llama_model_n_cls_out(model) if pooling == "rank" else C.llama_model_n_embd_out(model)
        self._buffers = _Buffers(self.num_batch)

    def run(self, parts: Sequence[Part]) -> list[Vector]:
        """Compute the parts; what each of them gives, in order. Raises EngineError."""
        self._check(parts)
        ends = self._buffers.fill(parts, every=self._pooled)
        code = self._encode(self._context, self._buffers.batch)
        if code != 0:
            raise EngineError(f"llama.cpp could not compute a batch of texts (code {code})")
        if self._pooled:
            return [self._vector(part.sequence) for part in parts]
        return [self._logits(end - 1)[self._answers] for end in ends]

    def clear(self) -> None:
        """Forget all sequences."""
        if self._memory:
            C.llama_memory_clear(self._memory, False)

    def close(self) -> None:
        """Free the context."""
        if self._context:
            C.llama_free(self._context)
            self._context = None

    def _check(self, parts: Sequence[Part]) -> None:
        sequences = [part.sequence for part in parts]
        assert parts
        assert len(set(sequences)) == len(sequences) <= MAX_SEQUENCES
        assert min(sequences) >= 0
        assert max(sequences) < MAX_SEQUENCES
        assert sum(len(part.tokens) for part in parts) <= self.num_batch
        for part in parts:
            assert part.tokens
            assert part.start == 0 or self.takes_parts
            assert part.start + len(part.tokens) <= self.num_ctx

    def _vector(self, sequence: int) -> Vector:
        values = C.llama_get_embeddings_seq(self._context, sequence)
        if not values:
            raise EngineError("llama.cpp gave no vector")
        return np.ctypeslib.as_array(values, (self._num_values,)).copy()

    def _logits(self, index: int) -> Vector:
        values = C.llama_get_logits_ith(self._context, index)
        if not values:
            raise EngineError("llama.cpp gave no logits")
        return np.ctypeslib.as_array(values, (self._num_vocab,))


class Pooler:
    """The contexts of one model, each made on first use and again where a longer text comes."""

    def __init__(self, model: Any, spec: LoadSpec, answers: tuple[int, int] = (0, 0)) -> None:
        self._model = model
        self._spec = spec
        self._answers = answers
        self._contexts: dict[Pooling, PooledContext] = {}

    def context(self, pooling: Pooling, num_tokens: int) -> PooledContext:
        """A context that takes a text of `num_tokens`, at most the load's own `num_ctx`."""
        found = self._contexts.get(pooling)
        if found is None or found.num_ctx < num_tokens:
            if found is not None:
                found.close()
            num_ctx = min(self._spec.num_ctx, max(ENCODER_BATCH, 1 << (num_tokens - 1).bit_length()))
            assert num_tokens <= num_ctx
            found = self._contexts[pooling] = PooledContext(self._model, self._spec, pooling, num_ctx, self._answers)
        return found


def _flash_attention(spec: LoadSpec, pooling: Pooling, num_ctx: int) -> int:
    """llama.cpp's number of on, off, or its own choice."""
    if spec.flash_attn is None:
        return 0 if pooling == "rank" and not spec.is_causal and num_ctx <= EXACT_CTX else -1
    return int(spec.flash_attn)


def _padded(num_tokens: int) -> int:
    return num_tokens + -num_tokens % CELL_STEP


class _Buffers:
    """The arrays behind one llama_batch, filled without a Python loop over tokens."""

    def __init__(self, num_tokens: int) -> None:
        self._tokens = np.zeros(num_tokens, np.int32)
        self._positions = np.zeros(num_tokens, np.int32)
        self._sequences = np.zeros(num_tokens, np.int32)
        self._wanted = np.zeros(num_tokens, np.int8)
        self._ones = np.ones(num_tokens, np.int32)
        # llama.cpp wants a pointer to the sequence of each token: they point into `_sequences`, for good.
        first = self._sequences.ctypes.data
        self._pointers = (first + 4 * np.arange(num_tokens, dtype=np.uint64)).astype(np.uint64)
        self.batch = C.llama_batch()
        self.batch.token = self._tokens.ctypes.data_as(ctypes.POINTER(C.llama_token))
        self.batch.pos = self._positions.ctypes.data_as(ctypes.POINTER(C.llama_pos))
        self.batch.n_seq_id = self._ones.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        self.batch.seq_id = self._pointers.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(C.llama_seq_id)))
        self.batch.logits = self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))

    def fill(self, parts: Sequence[Part], *, every: bool) -> list[int]:
        """Lay out the parts, with an output at their last token or at `every` one; where each of them ends."""
        ends: list[int] = []
        at = 0
        for part in parts:
            end = at + len(part.tokens)
            self._tokens[at:end] = part.tokens
            self._positions[at:end] = range(part.start, part.start + end - at)
            self._sequences[at:end] = part.sequence
            self._wanted[at:end] = every
            self._wanted[end - 1] = True
            ends.append(end)
            at = end
        self.batch.n_tokens = at
        return ends
