"""The key of saved states: a digest of all that decides whether a state of one process serves in another; the disk tier
that is opened with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from localllm.binding import library_digest
from localllm.engine.disk_tier import DiskTier, Report
from localllm.engine.frames import LoadSpec
from localllm.engine.kv_cache import KVCache
from localllm.engine.llama import LlamaModel
from localllm.engine.prefix_files import PrefixFiles

# What changes how a state is computed or kept is in the key; these do not. A new field is in it until it is named here.
_WITHOUT_EFFECT = frozenset(
    {
        "paths",  # `prefix_key` stands for the files
        "num_ctx",
        "num_cells",
        "num_slots",
        "num_batch",
        "num_ubatch",
        "num_threads",
        "num_threads_batch",
        "use_mmap",
        "host_tokens",
        "max_drafts",
        "use_mtp",  # what drafts is no part of what is drafted for
        "step_target_us",
        "prefix_dir",
        "prefix_disk_bytes",
        "adapters",  # each prefix has them in its scope
    }
)


def open_disk_tier(spec: LoadSpec, model: LlamaModel, cache: KVCache, report: Report) -> DiskTier | None:
    """The prefixes on disk that `spec` may use, made known to `cache`. None: it asks for none."""
    if spec.prefix_disk_bytes <= 0 or not spec.prefix_dir:
        return None
    files = PrefixFiles(Path(spec.prefix_dir), state_key(spec, model), spec.prefix_disk_bytes)
    for stored in files.scan():
        cache.saved.found(stored)
    return DiskTier(files, report)


def state_key(spec: LoadSpec, model: LlamaModel) -> str:
    """The key for what `spec` loads, 32 hex digits."""
    facts = {name: value for name, value in msgspec.to_builtins(spec).items() if name not in _WITHOUT_EFFECT}
    facts["build"] = library_digest()
    # llama.cpp writes how many streams there are into every state.
    facts["streams"] = spec.num_slots if spec.kv_layout == "streams" else 1
    # Some models turn positions by other factors once the context is longer than they were first trained for.
    original = model.metadata("rope.scaling.original_context_length")
    cells = spec.num_cells if spec.kv_layout == "unified" else spec.num_cells // spec.num_slots
    facts["long"] = original is not None and original.isdecimal() and cells > int(original)
    return hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()[:32]
