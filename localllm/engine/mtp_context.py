"""HeadContext: llama.cpp's context of a model's own draft head, and the hidden states the model gives for it.

The head has a cache of its own. It is read in two ways, as every architecture's graph allows: no token of a batch has
an output, or all have.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from localllm.binding import C, extension_function
from localllm.drafting import MTP_OUTPUTS
from localllm.engine.frames import LoadSpec
from localllm.engine.mtp_reading import Rows
from localllm.engine.runner import NoSpaceError
from localllm.errors import EngineError, EngineLoadError
from localllm.model_shape import kv_type_named

_CONTEXT_MTP = 1  # LLAMA_CONTEXT_TYPE_MTP


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive tokens of one slot, from position `start`, each with the hidden state one position earlier."""

    slot: int
    start: int
    tokens: list[int]
    rows: Rows


class HiddenStates:
    """What a model's context computes for its head: a row for every token of a batch, in order."""

    def __init__(self, context: Any, num_batch: int, num_embd: int) -> None:
        self._context = context
        self._shape = (num_batch, num_embd)
        self._read = extension_function("llama_get_embeddings_nextn")
        extension_function("llama_set_embeddings_nextn")(context, True, False)

    def of_last_step(self) -> Rows:
        """The rows of the last decode; a view that the next one overwrites, and longer than what it wrote."""
        return _view(self._read(self._context), self._shape)


class HeadContext:
    """The head's cells and its batches."""

    def __init__(self, model: Any, spec: LoadSpec, num_vocab: int, num_embd: int) -> None:
        params = C.llama_context_default_params()
        params.ctx_type = _CONTEXT_MTP
        params.n_ctx = spec.num_cells
        params.n_batch = spec.num_batch
        params.n_ubatch = min(spec.num_batch, spec.num_ubatch)
        params.n_seq_max = spec.num_slots
        params.n_outputs_max = self.max_outputs = MTP_OUTPUTS * spec.num_slots
        params.flash_attn_type = -1 if spec.flash_attn is None else int(spec.flash_attn)
        params.type_k, params.type_v = kv_type_named(spec.kv_type_k).number, kv_type_named(spec.kv_type_v).number
        params.n_threads = spec.num_threads
        params.n_threads_batch = spec.num_threads_batch or spec.num_threads
        params.kv_unified = spec.kv_layout == "unified"
        params.no_perf = True
        self._handle = C.llama_init_from_model(model, params)
        if not self._handle:
            hint = "ask for less context (--ctx) or fewer slots"
            raise EngineLoadError(f"no memory for a draft head's context of {spec.num_cells} tokens", hint=hint)
        self._memory = C.llama_get_memory(self._handle)
        extension_function("llama_set_embeddings_nextn")(self._handle, True, True)
        self._read_hidden = extension_function("llama_get_embeddings_nextn")
        self._shapes = (self.max_outputs, num_vocab), (self.max_outputs, num_embd)
        self.num_batch = spec.num_batch
        self._lay_out(spec.num_batch, num_embd)

    def read(self, parts: list[Part]) -> None:
        """Take in tokens; nothing is wanted of them."""
        self._decode(parts, wanted=False)

    def guess(self, parts: list[Part]) -> list[tuple[int, Rows]]:
        """Take in tokens; what follows each part likeliest, and the state it comes from. At most MTP_OUTPUTS a part."""
        if sum(len(part.tokens) for part in parts) > self.max_outputs:
            raise EngineError(f"more than {self.max_outputs} outputs in a batch of a draft head")
        self._decode(parts, wanted=True)
        logits = _view(C.llama_get_logits(self._handle), self._shapes[0])
        hidden = _view(self._read_hidden(self._handle), self._shapes[1])
        last = np.cumsum([len(part.tokens) for part in parts]) - 1
        return [(int(logits[at].argmax()), hidden[at : at + 1].copy()) for at in last]

    def trim(self, slot: int, num_tokens: int) -> None:
        """Remove a slot's cells from position `num_tokens` on."""
        if not C.llama_memory_seq_rm(self._memory, slot, num_tokens, -1):
            raise EngineError(f"llama.cpp could not cut slot {slot} of a draft head to {num_tokens} tokens")

    def close(self) -> None:
        """Give all memory back."""
        if self._handle:
            C.llama_free(self._handle)
            self._handle = None

    def _lay_out(self, num_tokens: int, num_embd: int) -> None:
        """The arrays behind one llama_batch that has tokens and states."""
        self._tokens = np.zeros(num_tokens, np.int32)
        self._rows = np.zeros((num_tokens, num_embd), np.float32)
        self._positions = np.zeros(num_tokens, np.int32)
        self._slots = np.zeros(num_tokens, np.int32)
        self._wanted = np.zeros(num_tokens, np.int8)
        self._ones = np.ones(num_tokens, np.int32)
        self._slot_pointers = (self._slots.ctypes.data + 4 * np.arange(num_tokens, dtype=np.uint64)).astype(np.uint64)
        self._batch = batch = C.llama_batch()
        batch.token = self._tokens.ctypes.data_as(ctypes.POINTER(C.llama_token))
        batch.embd = self._rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        batch.pos = self._positions.ctypes.data_as(ctypes.POINTER(C.llama_pos))
        batch.n_seq_id = self._ones.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        batch.seq_id = self._slot_pointers.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(C.llama_seq_id)))
        batch.logits = self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))

    def _decode(self, parts: list[Part], *, wanted: bool) -> None:
        at = 0
        for part in parts:
            end = at + len(part.tokens)
            if end > self.num_batch:
                raise EngineError(f"a draft head's batch of more than {self.num_batch} tokens")
            self._tokens[at:end] = part.tokens
            self._rows[at:end] = part.rows
            self._positions[at:end] = range(part.start, part.start + end - at)
            self._slots[at:end] = part.slot
            at = end
        self._wanted[:at] = wanted
        self._batch.n_tokens = at
        code = C.llama_decode(self._handle, self._batch)
        if code == 1:
            raise NoSpaceError
        if code != 0:
            raise EngineError(f"llama.cpp could not compute a draft head's step (code {code})")


def _view(pointer: Any, shape: tuple[int, int]) -> Rows:
    return np.ctypeslib.as_array(pointer, shape=shape)
