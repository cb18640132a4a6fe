"""verify: every byte against its digest, what is remembered of it, and what a pull then mends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localllm.api import Progress
from localllm.errors import CorruptModelError, ModelNotFoundError
from localllm.store.store import ModelStore
from tests.store.models import add_model, tiny


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


def flip_keeping_time(path: Path) -> None:
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_sound_model_is_ok_and_progress_runs_to_the_end(store: ModelStore, tmp_path: Path) -> None:
    manifest = add_model(store, "m", tiny(tmp_path))
    seen: list[Progress] = []
    (state,) = store.verify("m", seen.append)
    assert (state.state, state.blob) == ("ok", manifest.blobs[0])
    assert seen[-1].done == seen[-1].total == manifest.size_bytes
    with pytest.raises(ModelNotFoundError):
        store.verify("n")


def test_a_flip_with_the_time_kept_is_found_only_by_verify_then_remembered(store: ModelStore, tmp_path: Path) -> None:
    manifest = add_model(store, "m", tiny(tmp_path))
    (path,) = store.paths(manifest)
    flip_keeping_time(path)
    assert store.paths(manifest)  # a look cannot see it
    assert [s.state for s in store.verify("m")] == ["corrupt"]
    assert store.state(manifest.blobs[0]) == "corrupt"
    with pytest.raises(CorruptModelError, match="does not hold"):
        ModelStore(store.root).paths(manifest)
    assert not store.has_blob(manifest.blobs[0].digest, manifest.size_bytes)
    add_model(store, "m", tiny(tmp_path))
    assert [s.state for s in store.verify("m")] == ["ok"]
    assert store.paths(manifest)


def test_zeroes_and_truncation_are_corrupt_and_a_missing_file_missing(store: ModelStore, tmp_path: Path) -> None:
    manifest = add_model(store, "m", tiny(tmp_path))
    (path,) = store.paths(manifest)
    size = path.stat().st_size
    path.write_bytes(bytes(size))
    assert [s.state for s in store.verify("m")] == ["corrupt"]
    path.write_bytes(b"GGUF")
    assert [s.state for s in store.verify("m")] == ["corrupt"]
    path.unlink()
    assert [s.state for s in store.verify("m")] == ["missing"]
    assert store.state(manifest.blobs[0]) == "missing"


def test_a_blob_that_only_looked_changed_is_trusted_again(store: ModelStore, tmp_path: Path) -> None:
    manifest = add_model(store, "m", tiny(tmp_path))
    (path,) = store.paths(manifest)
    os.utime(path, ns=(0, 10**18))
    with pytest.raises(CorruptModelError, match="changed") as caught:
        store.paths(manifest)
    assert "verify" in str(caught.value.hint)
    assert [s.state for s in store.verify("m")] == ["ok"]
    assert store.paths(manifest) == [path]


def test_bytes_that_were_corrupt_and_are_right_again_are_trusted_again(store: ModelStore, tmp_path: Path) -> None:
    manifest = add_model(store, "m", tiny(tmp_path))
    (path,) = store.paths(manifest)
    flip_keeping_time(path)
    assert [s.state for s in store.verify("m")] == ["corrupt"]
    flip_keeping_time(path)
    assert [s.state for s in store.verify("m")] == ["ok"]
    assert store.paths(manifest)
