"""Putting tiny models into a store, for the tests of the store."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from localllm.store.describe import describe
from localllm.store.manifest import Manifest
from localllm.store.store import ModelStore
from tests.store.tiny_gguf import write_tiny_gguf


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def add_model(store: ModelStore, name: str, source: Path) -> Manifest:
    """Bring a file in as a pull does: partial file, ingest, add."""
    with store.partial(name) as part:
        shutil.copyfile(source, part.path)
        blob = store.ingest(part.path, digest=None, filename=source.name)
    manifest = describe(name, "test", [blob], [store.blob_path(blob.digest)])
    store.add(manifest)
    return manifest


def tiny(tmp_path: Path, seed: int = 0) -> Path:
    return write_tiny_gguf(tmp_path / f"tiny{seed}.gguf", seed=seed)
