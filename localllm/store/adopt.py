"""Taking over models that other programs on this machine hold, without copying a byte or touching theirs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from localllm.api import Progress, SamplingParams
from localllm.errors import CorruptModelError, ModelNotFoundError, StoreError
from localllm.store.adopt_layouts import FINDERS, Adoptable, FoundFile, Places, plain_name
from localllm.store.describe import describe
from localllm.store.gguf import read_gguf
from localllm.store.manifest import Blob, Manifest
from localllm.store.store import ModelStore


def find_adoptable(
    env: Mapping[str, str] | None = None, *, home: Path | None = None, platform: str = sys.platform
) -> list[Adoptable]:
    """Models that Hugging Face's cache, Ollama, LM Studio, llama.cpp and Jan hold here, each set of files once.

    Reads names, small text files and four bytes of each model. `env` (default: the process's), `home` and `platform`
    say where to look.
    """
    places = Places(os.environ if env is None else env, home or Path.home(), platform)
    seen: set[tuple[Path, ...]] = set()
    found: list[Adoptable] = []
    for finder in FINDERS:
        for item in finder(places):
            if item.paths not in seen:
                seen.add(item.paths)
                found.append(item)
    return found


def adopt(store: ModelStore, item: Adoptable, *, on_progress: Callable[[Progress], None] | None = None) -> Manifest:
    """Register a found model: every byte is hashed once, then linked (reflink, hard link) or referenced where it lies.

    Returns its manifest; the one already there when these bytes have that name. A name taken by other bytes gets a
    number. Raises GGUFError for an unsound file, CorruptModelError where the bytes are not what the other program says.
    """
    for file in item.files:
        read_gguf(file.path)
    blobs, done = [], 0
    for file in item.files:
        blobs.append(_take(store, file, done, item.size_bytes, on_progress))
        done += file.size_bytes
    name, present = _free_name(store, item, blobs)
    if present is not None:
        return present
    manifest = describe(
        name,
        item.origin,
        blobs,
        item.paths,
        system=item.system,
        num_ctx=item.num_ctx,
        sampling=item.sampling if item.sampling != SamplingParams() else None,
    )
    store.add(manifest)
    return manifest


def _take(
    store: ModelStore, file: FoundFile, done: int, total: int, on_progress: Callable[[Progress], None] | None
) -> Blob:
    def report(n: int) -> None:
        if on_progress is not None:
            on_progress(Progress("verify", file.filename, done + n, total))

    if file.digest is not None and store.has_blob(file.digest, file.size_bytes):
        return Blob(file.digest, file.size_bytes, file.filename, file.role)
    blob = store.ingest(file.path, digest=None, link=True, filename=file.filename, role=file.role, on_bytes=report)
    if file.digest is not None and blob.digest != file.digest:
        hint = "let the program it belongs to fetch it again, or pull the model here"
        raise CorruptModelError(f"{file.path} is not {file.digest}", hint=hint, name=file.filename, blob=file.digest)
    return blob


def _free_name(store: ModelStore, item: Adoptable, blobs: list[Blob]) -> tuple[str, Manifest | None]:
    """The item's name, or a numbered one where other bytes have it; and the model of that name when it is these."""
    wanted = [blob.digest for blob in blobs]
    tag = item.source.replace(".", "")
    for number in range(1, 1000):
        candidate = item.name if number == 1 else plain_name(item.files[0].filename, f"{tag}-{number}")
        try:
            present = store.get(candidate)
        except ModelNotFoundError:
            return candidate, None
        except CorruptModelError:
            continue
        if [blob.digest for blob in present.blobs] == wanted:
            return candidate, present
    raise StoreError(f"a thousand models are called {item.name}", name=item.name)


__all__ = ["Adoptable", "FoundFile", "adopt", "find_adoptable"]
