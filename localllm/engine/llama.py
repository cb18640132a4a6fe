"""LlamaRunner: carries out batches with llama.cpp's low-level API. The only caller of `llama_decode`.

llama.cpp asserts, and so ends the process, on batches that are too long, have too many outputs or name a sequence that
does not exist; the scheduler's bounds rule those out, and `run` checks them once more.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from localllm.api import SamplingParams, TokenLogprob
from localllm.binding import C, library_function
from localllm.engine.adapter_set import AdapterSet
from localllm.engine.adapters import Adapters, AppliedAdapters
from localllm.engine.batch import MAX_SCORED, Batch, Chunk, Sampled
from localllm.engine.checkpoints import StateCost, StateKind
from localllm.engine.constraint import Grammar, Matcher
from localllm.engine.frames import LoadSpec
from localllm.engine.logprobs import PromptScores
from localllm.engine.masked import MaskThread
from localllm.engine.mtp import DraftHead
from localllm.engine.runner import NoSpaceError
from localllm.engine.sampling import Sampler
from localllm.engine.states import States
from localllm.engine.vocab import Vocab
from localllm.errors import EngineError, EngineLoadError
from localllm.model_shape import kv_type_named


class LlamaModel:
    """Loaded weights and their vocabulary. Its attributes are plain facts, read once."""

    def __init__(self, spec: LoadSpec, on_progress: Callable[[float], bool]) -> None:
        params = C.llama_model_default_params()
        params.load_mode = C.LLAMA_LOAD_MODE_MMAP if spec.use_mmap else C.LLAMA_LOAD_MODE_NONE
        params.load_mtp = spec.use_mtp
        params.n_gpu_layers = 0 if spec.devices == () else spec.num_gpu_layers
        if spec.devices is not None:
            self._devices = _device_list(spec.devices)
            params.devices = ctypes.cast(self._devices, ctypes.c_void_p)
        self._progress = C.llama_progress_callback(lambda fraction, _user: on_progress(fraction))
        params.progress_callback = self._progress
        paths = [path.encode() for path in spec.paths]
        if len(paths) == 1:
            self.handle = C.llama_model_load_from_file(paths[0], params)
        else:
            self.handle = C.llama_model_load_from_splits((ctypes.c_char_p * len(paths))(*paths), len(paths), params)
        if not self.handle:
            raise EngineLoadError("llama.cpp could not load the model", path=spec.paths[0])
        if spec.task == "generate" and not C.llama_model_has_decoder(self.handle):
            raise EngineLoadError("this model has no decoder: it cannot generate text", path=spec.paths[0])
        self.vocab = Vocab(self.handle)
        self.adapters = Adapters(self.handle, spec.paths)
        # Length of a text's vector.
        self.num_embd: int = C.llama_model_n_embd_out(self.handle)
        self.num_ctx_train: int = C.llama_model_n_ctx_train(self.handle)
        self.num_params: int = C.llama_model_n_params(self.handle)
        self.weight_bytes: int = C.llama_model_size(self.handle)
        self.description = _text(C.llama_model_desc, self.handle)
        self.kind: StateKind = "plain"
        if C.llama_model_is_recurrent(self.handle):
            self.kind = "recurrent"
        elif C.llama_model_is_hybrid(self.handle):
            self.kind = "hybrid"
        elif C.llama_model_n_swa(self.handle) > 0:
            self.kind = "window"

    def turn_tokens(self) -> frozenset[int]:
        """The tokens that may stand between the turns of a chat. Only asked for where checkpoints are made."""
        if self.kind == "plain":
            return frozenset()
        return frozenset(token.id for token in self.vocab.special_tokens if token.kind == "control")

    def metadata(self, name: str) -> str | None:
        """A value of the model's own metadata, such as "rope.freq_base"; None: it has no such key."""
        buffer = ctypes.create_string_buffer(256)
        arch_bytes = C.llama_model_meta_val_str(self.handle, b"general.architecture", buffer, len(buffer))
        key = buffer.raw[: max(0, arch_bytes)] + b"." + name.encode()
        num_bytes = C.llama_model_meta_val_str(self.handle, key, buffer, len(buffer))
        return None if num_bytes < 0 else buffer.value.decode("utf-8", "replace")

    def chat_template(self, name: str | None = None) -> str | None:
        """The chat template's source: the default one, or the named variant."""
        source = C.llama_model_chat_template(self.handle, name.encode() if name else None)
        return source.decode("utf-8", "replace") if source else None

    def close(self) -> None:
        """Free the weights."""
        if self.handle:
            C.llama_model_free(self.handle)
            self.handle = None


class LlamaRunner:
    """One llama.cpp context over a model, with one sampler for each open sequence."""

    def __init__(self, model: LlamaModel, spec: LoadSpec) -> None:
        self._vocab = model.vocab
        self._num_ctx = spec.num_ctx
        params = C.llama_context_default_params()
        params.n_ctx = spec.num_cells
        params.n_batch = spec.num_batch
        params.n_ubatch = min(spec.num_batch, spec.num_ubatch)
        params.n_seq_max = spec.num_slots
        params.n_outputs_max = self._max_outputs = spec.num_slots * (1 + spec.max_drafts) + MAX_SCORED
        params.flash_attn_type = -1 if spec.flash_attn is None else int(spec.flash_attn)
        params.type_k, params.type_v = kv_type_named(spec.kv_type_k).number, kv_type_named(spec.kv_type_v).number
        params.n_threads = spec.num_threads
        params.n_threads_batch = spec.num_threads_batch or spec.num_threads
        params.kv_unified = spec.kv_layout == "unified"
        if spec.use_mtp and model.kind == "hybrid":
            # A state kept for each of the last tokens, so that as many can be taken back.
            params.n_rs_seq = spec.max_drafts
        params.no_perf = True
        self._context = C.llama_init_from_model(model.handle, params)
        if not self._context:
            hint = "ask for less context (--ctx) or fewer slots"
            raise EngineLoadError(f"no memory for a context of {spec.num_cells} tokens", hint=hint)
        self.states = States(self._context, unified=params.kv_unified)
        self.max_cut: int = C.llama_n_rs_seq(self._context)
        self._kind: StateKind = model.kind
        self._num_swa: int = C.llama_model_n_swa(model.handle)
        self._lock = model.adapters.lock
        self._adapters = AppliedAdapters(self._context, model.adapters)
        self._buffers = _BatchBuffers(spec.num_batch)
        self._samplers: dict[int, Sampler] = {}
        self._scores = PromptScores(model.vocab)
        self._masks = MaskThread()
        self.head = DraftHead(self._context, model.handle, model.vocab, spec) if spec.use_mtp else None

    def open(
        self, sequence_id: int, params: SamplingParams, prompt: list[int], num_prompt_logprobs: int | None = None
    ) -> None:
        """See Runner.open."""
        self._samplers[sequence_id] = Sampler(self._vocab, params, prompt, self._num_ctx)
        if num_prompt_logprobs is not None:
            self._scores.open(sequence_id, num_prompt_logprobs)

    def scores(self, sequence_id: int) -> tuple[TokenLogprob, ...]:
        """See Runner.scores."""
        return self._scores.take(sequence_id)

    def adapt(self, sequence_id: int, adapters: AdapterSet) -> None:
        """See Runner.adapt."""
        self._adapters.want(sequence_id, adapters)

    def bind(self, sequence_id: int, grammar: Grammar) -> None:
        """See Runner.bind."""
        self._samplers[sequence_id].bind(grammar.begin())

    def accept(self, sequence_id: int, tokens: tuple[int, ...]) -> None:
        """See Runner.accept."""
        self._samplers[sequence_id].accept(tokens)

    def release(self, sequence_id: int) -> None:
        """Free the sequence's sampler chain."""
        self._scores.take(sequence_id)
        self._adapters.forget(sequence_id)
        sampler = self._samplers.pop(sequence_id, None)
        if sampler is not None:
            sampler.close()

    def run(self, batch: Batch) -> list[Sampled]:
        """See Runner.run."""
        self.states.carry_out(batch.ops)
        if self.states.disk is not None:
            self.states.disk.computing(bool(batch.chunks))
        if not batch.chunks:
            return []
        outputs = self._buffers.fill(batch.chunks)
        num_outputs = sum(chunk.samples + chunk.num_drafts + len(chunk.scored) for chunk in batch.chunks)
        if num_outputs > self._max_outputs:
            raise EngineError(f"{num_outputs} outputs in a step, at most {self._max_outputs}")
        masks = self._masks.begin(self._bound(chunk for chunk, _ in outputs))
        with self._lock:
            self._adapters.apply(chunk.sequence_id for chunk in batch.chunks)
            code = C.llama_decode(self._context, self._buffers.batch)
        if masks is not None:
            masks.result()
        if code == 1:
            raise NoSpaceError
        if code != 0:
            raise EngineError(f"llama.cpp could not compute a step (code {code})")
        if self.head is not None:
            self.head.take(batch.chunks)
        at = 0
        for chunk in batch.chunks:
            if chunk.scored:
                self._scores.read(self._context, chunk, at)
            at += len(chunk.tokens)
        return [self._sample(chunk, index) for chunk, index in outputs]

    def state_cost(self) -> StateCost:
        """What states of the model take besides their tokens; measured: llama.cpp only tells sizes of what is there."""
        if self._kind == "plain":
            return StateCost()
        self._buffers.fill([Chunk(0, 0, 0, [0], True)])
        if C.llama_decode(self._context, self._buffers.batch) != 0:
            raise EngineLoadError("llama.cpp could not compute a token")
        whole, partial = self.states.sizes(0)
        self.states.trim(0, 0)
        if self._kind == "recurrent":
            return StateCost(whole, whole)  # its tokens take nothing: host memory is counted in bytes
        if self._kind == "hybrid":
            tokens = -(-partial // max(1, whole - partial))
            return StateCost(tokens, tokens)
        return StateCost(0, self._num_swa * partial // whole)

    def keep(self, key: int, state: Any) -> None:
        """See Runner.keep."""
        self.states.keep(key, state)

    def close(self) -> None:
        """Free the context, its memory and all samplers."""
        for sequence_id in list(self._samplers):
            self.release(sequence_id)
        self.states.clear()
        self._masks.close()
        if self.head is not None:
            self.head.close()
        if self._context:
            C.llama_free(self._context)
            self._context = None

    def _bound(self, chunks: Iterable[Chunk]) -> list[tuple[Matcher, list[int]]]:
        """The matchers of chunks that have one, with the chunks' drafts."""
        matchers = ((self._samplers[chunk.sequence_id].matcher, chunk.drafts) for chunk in chunks)
        return [(matcher, drafts) for matcher, drafts in matchers if matcher is not None]

    def _sample(self, chunk: Chunk, index: int) -> Sampled:
        """Choose what follows a chunk, whose outputs start at `index`: on and on while the drafts are right."""
        sampler = self._samplers[chunk.sequence_id]
        drafts = chunk.drafts
        tokens: list[int] = []
        logprobs: list[TokenLogprob] = []
        while True:
            token, logprob = sampler.sample(self._context, index + len(tokens))
            tokens.append(token)
            if logprob is not None:
                logprobs.append(logprob)
            num_accepted = len(tokens) - 1
            ends = self._vocab.ends(token)
            if ends or sampler.is_over or num_accepted == len(drafts) or token != drafts[num_accepted]:
                break
        # A token that was forced has no log probability.
        forced = [] if ends or sampler.is_over or logprobs else sampler.forced()
        return Sampled(
            (*tokens, *forced),
            ends,
            sampler.is_over and not ends,
            num_accepted,
            len(forced),
            tuple(logprobs),
            sampler.failure,
        )


class _BatchBuffers:
    """The arrays behind one llama_batch, filled without a Python loop over tokens."""

    def __init__(self, num_tokens: int) -> None:
        self._tokens = np.zeros(num_tokens, np.int32)
        self._positions = np.zeros(num_tokens, np.int32)
        self._slots = np.zeros(num_tokens, np.int32)
        self._wanted = np.zeros(num_tokens, np.int8)
        self._ones = np.ones(num_tokens, np.int32)
        # llama.cpp wants a pointer to the slot of each token: they point into `_slots`, for good.
        self._slot_pointers = (self._slots.ctypes.data + 4 * np.arange(num_tokens, dtype=np.uint64)).astype(np.uint64)
        self.batch = C.llama_batch()
        self.batch.token = self._tokens.ctypes.data_as(ctypes.POINTER(C.llama_token))
        self.batch.pos = self._positions.ctypes.data_as(ctypes.POINTER(C.llama_pos))
        self.batch.n_seq_id = self._ones.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        self.batch.seq_id = self._slot_pointers.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(C.llama_seq_id)))
        self.batch.logits = self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))

    def fill(self, chunks: list[Chunk]) -> list[tuple[Chunk, int]]:
        """Lay out the chunks; return those that sample, each with the index of its first output."""
        outputs: list[tuple[Chunk, int]] = []
        at = 0
        total = sum(len(chunk.tokens) for chunk in chunks)
        if total > len(self._tokens):
            raise EngineError(f"a step of {total} tokens, at most {len(self._tokens)}")
        self._wanted[:total] = 0
        for chunk in chunks:
            end = at + len(chunk.tokens)
            self._tokens[at:end] = chunk.tokens
            self._positions[at:end] = range(chunk.start, chunk.start + end - at)
            self._slots[at:end] = chunk.slot
            self._wanted[at : at + len(chunk.scored)] = 1
            if chunk.samples:
                first = end - 1 - chunk.num_drafts
                self._wanted[first:end] = 1
                outputs.append((chunk, first))
            at = end
        self.batch.n_tokens = total
        return outputs


def _text(function: Any, handle: Any) -> str:
    buffer = ctypes.create_string_buffer(256)
    function(handle, buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace")


def accelerators() -> list[str]:
    """Names of the devices that llama.cpp would put layers on: everything but the CPU and its helpers."""
    count = library_function("ggml_backend_dev_count", ctypes.c_size_t)
    get = library_function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    name = library_function("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)
    kind = library_function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    handles = [get(index) for index in range(count())]
    return [name(handle).decode() for handle in handles if kind(handle) in (1, 2)]


def _device_list(names: tuple[str, ...]) -> Any:
    """A NULL-terminated array of ggml devices. An empty one is CPU only: NULL itself would mean all there are."""
    handles: list[int] = []
    if names:
        by_name = library_function("ggml_backend_dev_by_name", ctypes.c_void_p, ctypes.c_char_p)
        for name in names:
            handle = by_name(name.encode())
            if not handle:
                raise EngineLoadError(f"no device {name}", hint="see `localllm doctor` for the devices there are")
            handles.append(handle)
    return (ctypes.c_void_p * (len(handles) + 1))(*handles, None)
