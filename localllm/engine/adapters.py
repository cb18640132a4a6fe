"""Adapters: the LoRA files of one model. Checks them before llama.cpp sees them, loads each once, frees idle ones.

Which of them a step applies is the runner's to set. Used by the thread that prepares requests; `lock` keeps the list
of adapters, which llama.cpp reads when it lays out its graphs, from changing under a step.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import threading
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localllm.api import Adapter
from localllm.binding import C
from localllm.engine.adapter_set import NO_ADAPTERS, AdapterSet
from localllm.errors import AdapterError
from localllm.store.gguf import GGUF, read_gguf
from localllm.store.lora import check_lora, read_lora

# Adapters kept loaded: those in use, and the ones used last.
MAX_LOADED = 16
MAX_SCALE = 1000.0

Stamp = tuple[int, int, int]


@dataclass(eq=False, slots=True)
class _Loaded:
    """One adapter in memory, and the sets it is part of."""

    digest: str
    handle: Any
    last_used: int
    users: weakref.WeakSet[AdapterSet] = field(default_factory=weakref.WeakSet)


class Adapters:
    """Loads adapters for one model. `model_paths` are the model's files; freed with the model."""

    def __init__(self, model: Any, model_paths: Sequence[str]) -> None:
        self.lock = threading.Lock()
        self._model = model
        self._model_paths = model_paths
        self._headers: list[GGUF] = []
        self._loaded: dict[str, _Loaded] = {}
        self._digests: dict[str, tuple[Stamp, str]] = {}
        self._tick = 0

    def together(self, wanted: Sequence[Adapter]) -> AdapterSet:
        """The set of these adapters, loaded where they were not. The scales of one that comes twice add up.

        Raises AdapterError for a file that cannot be applied to this model.
        """
        scales: dict[str, float] = {}
        loaded: dict[str, _Loaded] = {}
        for adapter in wanted:
            if not abs(adapter.scale) <= MAX_SCALE:
                raise AdapterError(f"an adapter with a scale of {adapter.scale}", hint=f"at most {MAX_SCALE:g}")
            one = self._load(Path(adapter.path), keep=loaded)
            loaded[one.digest] = one
            scales[one.digest] = scales.get(one.digest, 0.0) + adapter.scale
        digests = sorted(digest for digest, scale in scales.items() if scale != 0.0)
        if not digests:
            return NO_ADAPTERS
        key = "lora " + " ".join(f"{digest}*{scales[digest]!r}" for digest in digests)
        found = AdapterSet(key, tuple(loaded[d].handle for d in digests), tuple(scales[d] for d in digests))
        for digest in digests:
            loaded[digest].users.add(found)
        return found

    @property
    def num_loaded(self) -> int:
        """Adapters in memory."""
        return len(self._loaded)

    def _load(self, path: Path, keep: dict[str, _Loaded]) -> _Loaded:
        """The adapter in a file, by its bytes: a file that changed is another adapter."""
        self._tick += 1
        digest = self._digest(path)
        one = self._loaded.get(digest)
        if one is None:
            if not self._headers:
                self._headers = [read_gguf(Path(model_path)) for model_path in self._model_paths]
            check_lora(path, read_lora(path), self._headers)
            self._make_room(keep)
            with self.lock:
                handle = C.llama_adapter_lora_init(self._model, os.fsencode(path))
            if not handle:
                raise AdapterError(f"llama.cpp could not load the adapter {path}", path=str(path))
            one = self._loaded[digest] = _Loaded(digest, handle, self._tick)
        one.last_used = self._tick
        return one

    def _digest(self, path: Path) -> str:
        """The SHA-256 of a file; of one that looks as it did, the one found then."""
        try:
            status = path.stat()
            stamp = status.st_size, status.st_mtime_ns, status.st_ino
            known = self._digests.get(str(path))
            if known is None or known[0] != stamp:
                with path.open("rb") as file:
                    known = stamp, hashlib.file_digest(file, "sha256").hexdigest()
                self._digests[str(path)] = known
        except OSError as exc:
            raise AdapterError(f"adapter {path} cannot be read: {exc.strerror or exc}", path=str(path)) from exc
        return known[1]

    def _make_room(self, keep: dict[str, _Loaded]) -> None:
        """Free the adapter that was idle longest, where there are as many as there may be."""
        if len(self._loaded) < MAX_LOADED:
            return
        idle = [one for one in self._loaded.values() if not one.users and one.digest not in keep]
        if not idle:
            raise AdapterError(f"{len(self._loaded)} adapters are in use", hint="wait until some requests are done")
        oldest = min(idle, key=lambda one: one.last_used)
        with self.lock:
            C.llama_adapter_lora_free(oldest.handle)
        del self._loaded[oldest.digest]


def apply(context: Any, adapters: AdapterSet) -> None:
    """Make a context apply these adapters from the next step on, and no others; lays out its graphs anew."""
    count = len(adapters.handles)
    handles = (C.llama_adapter_lora_p_ctypes * max(1, count))(*adapters.handles)
    scales = (ctypes.c_float * max(1, count))(*adapters.scales)
    C.llama_set_adapters_lora(context, handles, count, scales)


class AppliedAdapters:
    """Which adapters a context applies, and which each of its sequences wants. For the engine's thread."""

    def __init__(self, context: Any, adapters: Adapters) -> None:
        self._context = context
        self._lock = adapters.lock
        self._wanted: dict[int, AdapterSet] = {}
        self._applied = NO_ADAPTERS

    def want(self, sequence_id: int, adapters: AdapterSet) -> None:
        """Note what a sequence is to be computed with."""
        self._wanted[sequence_id] = adapters

    def forget(self, sequence_id: int) -> None:
        """Forget a sequence; unknown ids are ignored."""
        self._wanted.pop(sequence_id, None)

    def apply(self, sequence_ids: Iterable[int]) -> None:
        """Make the next step apply what its sequences want, which is the same for all. Under `lock`, like the step."""
        wanted = [self._wanted.get(sequence_id, NO_ADAPTERS) for sequence_id in sequence_ids]
        assert len({each.key for each in wanted}) == 1
        if wanted[0].key != self._applied.key:
            apply(self._context, wanted[0])
        # Another set of the same adapters: whoever holds the old one may be gone.
        self._applied = wanted[0]
