"""From a model's files to what an engine child needs: reads the header, asks what fits, makes every choice.

Reads GGUF headers and the machine's memory; starts nothing.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from localllm import devices, tuned
from localllm.api import LoadOptions, Notice
from localllm.config import Settings
from localllm.drafting import DraftFiles, choose_max_drafts, draft_bytes, logits_bytes, mtp_bytes
from localllm.engine.frames import LoadSpec
from localllm.errors import AdapterError, EngineLoadError, InvalidRequestError, ModelNotFoundError
from localllm.kv_types import check_kv_types
from localllm.memory import DeviceMemory, LoadPlan, plan
from localllm.model_shape import DIFFUSION, MAX_UBATCH, ModelFacts, kv_bytes_per_token, model_facts
from localllm.name import ModelName
from localllm.paths import prefix_dir
from localllm.pool import PlannedLoad
from localllm.store.adapter_files import check_adapters, resolve_adapters
from localllm.store.files import free_bytes
from localllm.store.gguf import find_shards, gguf_summary, read_gguf
from localllm.store.identity import UNKNOWN_DIGEST, weights_id
from localllm.store.manifest import Blob, Manifest, utc_now

# Of the memory that is free after a load, prefixes kept in host memory may take an eighth, and this much at most.
HOST_CACHE_SHARE = 8
HOST_CACHE_BYTES = 2 * 2**30

# A cache of one stream per slot is allocated in full at load: this is what it may cost in time and memory.
STREAMS_SHARE = 8
FEWER_SLOTS = 4

# Prefixes on disk may take a twentieth of what is free, and this much at most.
PREFIX_DISK_SHARE = 20
PREFIX_DISK_BYTES = 8 * 2**30

MAX_SLOTS = 256  # llama.cpp's LLAMA_MAX_SEQ


def manifest_of_file(name: ModelName) -> tuple[Manifest, list[Path]]:
    """A manifest for a GGUF file that is run where it lies, and its files. Nothing is copied or hashed."""
    path = Path(name.absolute().repo)
    if not path.is_file():
        raise ModelNotFoundError(f"no file {path}", hint="check the path, or give a model name", name=str(name))
    paths = find_shards(path)
    summary = gguf_summary(*paths)
    manifest = Manifest(
        name=str(path),
        origin=f"file:{path}",
        blobs=tuple(Blob(UNKNOWN_DIGEST, shard.stat().st_size, shard.name) for shard in paths),
        created=utc_now(),
        licence=summary.licence,
        architecture=summary.architecture,
        num_params=summary.num_params,
        quant=summary.quant,
        num_ctx_train=summary.num_ctx_train,
        capabilities=summary.capabilities,
    )
    return manifest, paths


def plan_load(
    manifest: Manifest,
    paths: list[Path],
    options: LoadOptions,
    settings: Settings,
    hold: AbstractContextManager[None],
    *,
    draft: DraftFiles | None = None,
    available_bytes: int | None = None,
) -> PlannedLoad:
    """Decide how `manifest` is loaded: what the caller asked, then settings, then what fits this machine.

    `available_bytes`: the memory it may take (None: what is free now). Raises OutOfMemoryError where what was asked
    for does not fit.
    """
    weights = weights_id(manifest, paths)
    wanted, tuning_notices = tuned.fill_in(_merge(options, manifest, settings), manifest, weights)
    _check(wanted)
    facts = read_facts(manifest.name, paths)
    check_kv_types(facts, wanted)
    adapters = resolve_adapters(wanted.adapters)
    if adapters and facts.task != "generate":
        raise AdapterError(f"{manifest.name} does not generate text: adapters cannot be applied")
    adapter_bytes = check_adapters(adapters, paths)
    if facts.architecture in DIFFUSION:
        hint = "take a model that writes one token after another"
        raise EngineLoadError(f"{manifest.name} writes by diffusion, which localllm cannot do", hint=hint)
    free = devices.available_memory() if available_bytes is None else available_bytes
    available = max(0, free - adapter_bytes)
    chosen = choose(facts, available, wanted)
    left = max(0, available - chosen.needed_bytes)
    draft = draft if facts.task == "generate" else None
    max_drafts = choose_max_drafts(facts, chosen.num_slots, left)
    drafting_bytes = draft_bytes(draft, chosen, left) + logits_bytes(facts, chosen.num_slots, max_drafts)
    left = max(0, left - drafting_bytes)
    own_bytes = 0
    if max_drafts and draft is None:
        own_bytes = mtp_bytes(facts, chosen, left, wanted.kv_type_k or "f16", wanted.kv_type_v or "f16")
        left -= own_bytes
    if facts.recurrent_bytes and not own_bytes:
        max_drafts = 0
    host_bytes = min(HOST_CACHE_BYTES, left // HOST_CACHE_SHARE)
    spec = LoadSpec(
        paths=tuple(str(path) for path in paths),
        num_ctx=chosen.num_ctx,
        num_cells=chosen.num_cells,
        num_slots=chosen.num_slots,
        num_batch=chosen.num_batch,
        num_ubatch=wanted.num_ubatch or MAX_UBATCH,
        num_threads=wanted.num_threads or devices.num_cores(),
        num_threads_batch=wanted.num_threads_batch or 0,
        kv_layout=chosen.kv_layout,
        devices=_device_names(wanted.device),
        num_gpu_layers=-1 if wanted.num_gpu_layers is None else wanted.num_gpu_layers,
        use_mmap=wanted.use_mmap,
        flash_attn=wanted.flash_attn,
        kv_type_k=wanted.kv_type_k or "f16",
        kv_type_v=wanted.kv_type_v or "f16",
        host_tokens=host_bytes // max(1, _token_bytes(facts, wanted)),
        task=facts.task,
        pooling=facts.pooling,
        is_causal=facts.is_causal,
        # llama.cpp turns what these give into probabilities; all others that say yes or no are our own arithmetic.
        gives_probability=facts.pooling != "rank" or facts.architecture in ("qwen3", "qwen3vl"),
        prefix_dir=str(prefix_dir()),
        prefix_key=weights,
        prefix_disk_bytes=_prefix_disk_bytes(wanted),
        adapters=adapters,
        max_drafts=max_drafts,
        draft_paths=draft.paths if draft is not None else (),
        use_mtp=own_bytes > 0,
    )
    needed_bytes = chosen.needed_bytes + adapter_bytes + drafting_bytes + own_bytes
    return PlannedLoad(spec, needed_bytes, (*tuning_notices, *chosen.notices), hold)


def _token_bytes(facts: ModelFacts, wanted: LoadOptions) -> int:
    return kv_bytes_per_token(facts, wanted.kv_type_k or "f16", wanted.kv_type_v or "f16")


def _prefix_disk_bytes(wanted: LoadOptions) -> int:
    """What prefixes may take on disk: as asked, else a share of what is free."""
    if wanted.prefix_disk_bytes is not None:
        return wanted.prefix_disk_bytes
    try:
        return min(PREFIX_DISK_BYTES, free_bytes(prefix_dir()) // PREFIX_DISK_SHARE)
    except OSError:
        return 0


def draft_files(name: str, paths: list[Path]) -> DraftFiles:
    """What `plan_load` wants to know of a draft model."""
    return DraftFiles(tuple(str(path) for path in paths), read_facts(name, paths))


def read_facts(name: str, paths: list[Path]) -> ModelFacts:
    """The shape of a model, from the headers of its files."""
    headers = [read_gguf(path) for path in paths]
    tensors = [(tensor.name, tensor.size_bytes) for header in headers for tensor in header.tensors]
    return model_facts(name, headers[0].metadata, tensors, headers[0].num_tokens or 0)


def _check(wanted: LoadOptions) -> None:
    """Refuse what llama.cpp would abort on."""
    if not 1 <= (wanted.num_slots or 1) <= MAX_SLOTS:
        raise InvalidRequestError(f"num_slots is {wanted.num_slots}", hint=f"num_slots lies between 1 and {MAX_SLOTS}")
    if wanted.num_batch is not None and wanted.num_batch < max(32, wanted.num_slots or 1):
        raise InvalidRequestError(f"num_batch is {wanted.num_batch}", hint="at least 32, and one for each slot")
    for name in ("num_ctx", "num_threads", "num_threads_batch", "num_ubatch"):
        value = getattr(wanted, name)
        if value is not None and value < 1:
            raise InvalidRequestError(f"{name} is {value}", hint=f"{name} is at least 1")


def _merge(options: LoadOptions, manifest: Manifest, settings: Settings) -> LoadOptions:
    fallback = {
        "num_ctx": settings.num_ctx or manifest.num_ctx,
        "num_slots": settings.num_slots,
        "num_threads": settings.num_threads,
        "device": settings.device,
        "num_gpu_layers": settings.num_gpu_layers,
        "tuned": settings.tuned,
        "kv_type_k": settings.kv_type,
        "kv_type_v": settings.kv_type,
        "flash_attn": settings.flash_attn,
        "prefix_disk_bytes": settings.prefix_disk_bytes,
    }
    missing = {name: value for name, value in fallback.items() if getattr(options, name) is None}
    return msgspec.structs.replace(options, **missing)


def choose(facts: ModelFacts, available: int, wanted: LoadOptions) -> LoadPlan:
    """The plan, with a stream per slot where that is cheap.

    Streams decode faster and every sequence has its full context; the pool needs one context's memory only.
    """
    # A device that is named was probed by whoever named it; its memory is the backend's to manage.
    host = [DeviceMemory("CPU", available, is_host=True)]
    wanted = msgspec.structs.replace(wanted, device="cpu", num_gpu_layers=None)
    if facts.task != "generate":
        return _choose_pooled(facts, host, wanted)
    pool = plan(facts, host, wanted)
    if wanted.kv_layout is not None or pool.num_slots == 1:
        return pool
    stream_bytes = pool.num_ctx * _token_bytes(facts, wanted)
    # Fewer streams of their own are worth more than more slots of one pool, unless so many were asked for.
    for num_slots in (pool.num_slots, *((FEWER_SLOTS,) if wanted.num_slots is None else ())):
        if num_slots * stream_bytes <= available // STREAMS_SHARE:
            streams = msgspec.structs.replace(wanted, kv_layout="streams", num_ctx=pool.num_ctx, num_slots=num_slots)
            return msgspec.structs.replace(plan(facts, host, streams), notices=pool.notices)
    return pool


def _choose_pooled(facts: ModelFacts, host: list[DeviceMemory], wanted: LoadOptions) -> LoadPlan:
    """The plan of a model that embeds or ranks: one text at a time may be as long as the context."""
    wanted = msgspec.structs.replace(wanted, num_slots=1, kv_layout="unified")
    most = facts.num_ctx_train
    if facts.is_causal or wanted.num_ctx is None or wanted.num_ctx <= most:
        return plan(facts, host, wanted)
    # A model that reads a text as a whole knows so many places for tokens, and no more.
    chosen = plan(facts, host, msgspec.structs.replace(wanted, num_ctx=most))
    text = f"{facts.name} takes {most} tokens, not {wanted.num_ctx}"
    notice = Notice("context_reduced", text, {"num_ctx": most, "num_ctx_train": most})
    return msgspec.structs.replace(chosen, notices=(*chosen.notices, notice))


def _device_names(device: str | None) -> tuple[str, ...] | None:
    if device is None or device == "auto":
        return None
    if device.lower() == "cpu":
        return ()
    return tuple(name.strip() for name in device.split(os.pathsep if os.pathsep in device else ","))
