"""ModelStore: bytes in, models out, and what is left on disk."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from localllm.errors import (
    CorruptModelError,
    DigestMismatchError,
    DiskFullError,
    ModelInUseError,
    ModelNotFoundError,
    StoreError,
)
from localllm.store import files
from localllm.store.manifest import Blob, utc_now
from localllm.store.store import ModelStore
from tests.store.models import add_model, digest_of, tiny

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX rights and links")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


def files_in(store: ModelStore, *parts: str) -> list[str]:
    directory = store.root.joinpath(*parts)
    return sorted(os.listdir(directory)) if directory.is_dir() else []


def test_reading_an_absent_store_makes_nothing(store: ModelStore) -> None:
    assert store.list() == []
    with pytest.raises(ModelNotFoundError):
        store.get("m")
    assert not store.has_blob(f"sha256:{'0' * 64}", 1)
    assert store.prune().freed_bytes == 0
    with pytest.raises(ModelNotFoundError):
        store.remove("m")
    assert not store.root.exists()


def test_a_model_comes_and_goes(store: ModelStore, tmp_path: Path) -> None:
    source = tiny(tmp_path)
    manifest = add_model(store, "m:1", source)
    assert store.get("m:1") == manifest
    assert store.list() == [manifest]
    (path,) = store.paths(manifest)
    assert path.read_bytes() == source.read_bytes()
    assert manifest.blobs[0].filename == "tiny0.gguf"
    assert manifest.architecture == "llama"
    assert store.remove("m:1") == source.stat().st_size
    assert store.list() == []
    assert files_in(store, "blobs") == files_in(store, "records") == files_in(store, "work") == []


def test_names_that_differ_in_case_are_two_models(store: ModelStore, tmp_path: Path) -> None:
    add_model(store, "hf:a/b:X.gguf", tiny(tmp_path, 1))
    add_model(store, "hf:a/b:x.gguf", tiny(tmp_path, 2))
    assert [m.name for m in store.list()] == ["hf:a/b:X.gguf", "hf:a/b:x.gguf"]
    store.remove("hf:a/b:X.gguf")
    assert [m.name for m in store.list()] == ["hf:a/b:x.gguf"]


def test_a_missing_model_is_named_with_its_neighbours(store: ModelStore, tmp_path: Path) -> None:
    add_model(store, "smollm2:135m", tiny(tmp_path))
    with pytest.raises(ModelNotFoundError) as caught:
        store.get("smollm2:135")
    assert "smollm2:135m" in str(caught.value.hint)
    assert caught.value.facts["name"] == "smollm2:135"


def test_a_broken_manifest_is_warned_of_and_left_out(
    store: ModelStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_model(store, "good", tiny(tmp_path))
    (store.root / "manifests" / "bad.json").write_text("{")
    (store.root / "manifests" / "moved.json").write_bytes((store.root / "manifests" / "good.json").read_bytes())
    with caplog.at_level(logging.WARNING):
        assert [m.name for m in store.list()] == ["good"]
    assert "bad.json" in caplog.text
    assert "moved.json" in caplog.text
    with pytest.raises(CorruptModelError):
        store.get("bad")


def test_a_broken_manifest_keeps_every_blob_from_being_removed(store: ModelStore, tmp_path: Path) -> None:
    add_model(store, "a", tiny(tmp_path))
    store.copy("a", "b")
    (store.root / "manifests" / "b.json").write_text("{")
    assert store.remove("a") == 0
    assert len(files_in(store, "blobs")) == 1
    store.remove("b")
    assert store.prune(min_age_s=0).freed_bytes > 0
    assert files_in(store, "blobs") == []


def test_shared_blobs_survive(store: ModelStore, tmp_path: Path) -> None:
    manifest = add_model(store, "a", tiny(tmp_path))
    store.copy("a", "b")
    assert store.get("b").blobs == manifest.blobs
    assert store.remove("a") == 0
    assert store.paths(store.get("b"))
    assert store.remove("b") == manifest.size_bytes


def test_copy_overwrites_no_other_model(store: ModelStore, tmp_path: Path) -> None:
    add_model(store, "a", tiny(tmp_path, 1))
    add_model(store, "b", tiny(tmp_path, 2))
    with pytest.raises(StoreError, match="exists already"):
        store.copy("a", "b")
    store.copy("a", "c")
    store.copy("a", "c")


def test_replacing_a_model_gives_the_old_bytes_back(store: ModelStore, tmp_path: Path) -> None:
    add_model(store, "m", tiny(tmp_path, 1))
    second = add_model(store, "m", tiny(tmp_path, 2))
    assert files_in(store, "blobs") == [second.blobs[0].digest.replace(":", "-")]


def test_a_manifest_without_its_blob_is_not_published(store: ModelStore, tmp_path: Path) -> None:
    manifest = add_model(store, "a", tiny(tmp_path))
    ghost = msgspec.structs.replace(manifest, name="b", blobs=(Blob(f"sha256:{'1' * 64}", 9, "x"),))
    with pytest.raises(CorruptModelError):
        store.add(ghost)
    assert [m.name for m in store.list()] == ["a"]


def test_ingest_of_a_file_from_elsewhere_copies_and_leaves_it(store: ModelStore, tmp_path: Path) -> None:
    source = tiny(tmp_path)
    seen: list[int] = []
    blob = store.ingest(source, digest=None, on_bytes=seen.append)
    assert seen[-1] == blob.size_bytes == source.stat().st_size
    assert blob.digest == digest_of(source.read_bytes())
    assert store.has_blob(blob.digest, blob.size_bytes)
    assert os.stat(store.root / "blobs" / blob.digest.replace(":", "-")).st_ino != source.stat().st_ino


def test_a_wrong_promise_is_found_while_copying(store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(CorruptModelError):
        store.ingest(tiny(tmp_path), digest=f"sha256:{'2' * 64}")


def test_the_same_bytes_twice_are_one_blob(store: ModelStore, tmp_path: Path) -> None:
    first = store.ingest(tiny(tmp_path), digest=None)
    path = store.root / "blobs" / first.digest.replace(":", "-")
    before = path.stat()
    with store.staging() as staging:
        shutil.copyfile(tiny(tmp_path), staging / "again")
        assert store.ingest(staging / "again", digest=None).digest == first.digest
        assert files_in(store, "work", staging.name) == []
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


# -- rights and links


@posix
def test_everything_is_private(store: ModelStore, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        manifest = add_model(store, "m", tiny(tmp_path))
        with store.partial("k") as part:
            part.path.write_bytes(b"x")
        with store.lease(manifest):
            for path in [store.root, *store.root.rglob("*")]:
                mode = stat.S_IMODE(path.lstat().st_mode)
                if path.is_dir():
                    assert mode == 0o700, path
                elif path.name != "data":  # inside a directory of 0700
                    assert mode == 0o600, path
    finally:
        os.umask(old)


@posix
def test_loose_rights_are_tightened(store: ModelStore, tmp_path: Path) -> None:
    add_model(store, "m", tiny(tmp_path, 1))
    (store.root / "blobs").chmod(0o777)
    store.root.chmod(0o777)
    add_model(ModelStore(store.root), "n", tiny(tmp_path, 2))
    assert stat.S_IMODE((store.root / "blobs").stat().st_mode) == 0o700
    assert stat.S_IMODE(store.root.stat().st_mode) & 0o022 == 0


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_that_anybody_may_write_is_refused(store: ModelStore, tmp_path: Path) -> None:
    store.root.mkdir(mode=0o777)
    store.root.chmod(0o777)
    os.chown(store.root, 12345, 12345)
    with pytest.raises(StoreError, match="another user"):
        add_model(store, "m", tiny(tmp_path))
    assert list(store.root.iterdir()) == []


@posix
@pytest.mark.parametrize("directory", ["blobs", "records", "manifests", "work", "locks", "leases"])
def test_a_linked_directory_is_refused(store: ModelStore, tmp_path: Path, directory: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    store.root.mkdir()
    (store.root / directory).symlink_to(victim)
    with pytest.raises(StoreError):
        add_model(store, "m", tiny(tmp_path))
    assert list(victim.iterdir()) == []


@posix
def test_a_blob_that_became_a_link_is_not_followed(store: ModelStore, tmp_path: Path) -> None:
    manifest = add_model(store, "m", tiny(tmp_path))
    (path,) = store.paths(manifest)
    victim = tmp_path / "victim"
    shutil.copy2(path, victim)
    before = victim.read_bytes()
    path.unlink()
    path.symlink_to(victim)
    with pytest.raises(CorruptModelError):
        store.paths(manifest)
    assert not store.has_blob(manifest.blobs[0].digest, manifest.blobs[0].size_bytes)
    add_model(store, "m", tiny(tmp_path))  # a pull mends it
    assert not store.paths(manifest)[0].is_symlink()
    assert victim.read_bytes() == before


@posix
def test_planted_links_do_not_harm_their_target(store: ModelStore, tmp_path: Path) -> None:
    add_model(store, "a", tiny(tmp_path, 1))
    victim = tmp_path / "victim"
    victim.write_text("mine")
    digest = digest_of(tiny(tmp_path, 2).read_bytes()).replace(":", "-")
    for planted in (f"blobs/{digest}", f"records/{digest}.json", "manifests/m.json"):
        (store.root / planted).symlink_to(victim)
    manifest = add_model(store, "m", tiny(tmp_path, 2))
    assert store.paths(manifest)
    assert store.get("m") == manifest
    assert victim.read_text() == "mine"


@posix
def test_a_linked_lock_file_is_refused(store: ModelStore, tmp_path: Path) -> None:
    add_model(store, "a", tiny(tmp_path))
    victim = tmp_path / "victim"
    (store.root / "locks" / "store.lock").unlink()
    (store.root / "locks" / "store.lock").symlink_to(victim)
    with pytest.raises(StoreError):
        store.remove("a")
    assert not victim.exists()


@posix
def test_a_linked_manifest_is_not_read(store: ModelStore, tmp_path: Path) -> None:
    add_model(store, "a", tiny(tmp_path))
    path = store.root / "manifests" / "a.json"
    moved = path.rename(tmp_path / "a.json")
    path.symlink_to(moved)
    assert store.list() == []
    with pytest.raises(StoreError, match="symbolic link"):
        store.get("a")


@posix
def test_a_named_pipe_in_place_of_a_blob_does_not_hang(store: ModelStore, tmp_path: Path) -> None:
    manifest = add_model(store, "m", tiny(tmp_path))
    (path,) = store.paths(manifest)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CorruptModelError):
        store.paths(manifest)
    assert not store.has_blob(manifest.blobs[0].digest, manifest.blobs[0].size_bytes)


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    real = tmp_path / "big-disk"
    real.mkdir()
    link = tmp_path / "link"
    try:
        link.symlink_to(real, target_is_directory=True)
    except OSError:
        pytest.skip("this system lets us make no symbolic link")
    add_model(ModelStore(link), "m", tiny(tmp_path))
    assert [m.name for m in ModelStore(real).list()] == ["m"]


# -- changed and missing bytes


def test_a_touched_blob_is_refused_by_name(store: ModelStore, tmp_path: Path) -> None:
    manifest = add_model(store, "m", tiny(tmp_path))
    (path,) = store.paths(manifest)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    with pytest.raises(CorruptModelError) as caught:
        store.paths(manifest)
    assert "m" in str(caught.value)
    assert caught.value.facts["blob"] == manifest.blobs[0].digest
    assert not store.has_blob(manifest.blobs[0].digest, manifest.blobs[0].size_bytes)


@pytest.mark.parametrize("harm", ["truncate", "empty", "longer", "unlink"])
def test_a_harmed_blob_is_refused_and_mended_by_a_pull(store: ModelStore, tmp_path: Path, harm: str) -> None:
    manifest = add_model(store, "m", tiny(tmp_path))
    (path,) = store.paths(manifest)
    data = path.read_bytes()
    if harm == "unlink":
        path.unlink()
    else:
        path.write_bytes({"truncate": data[:-1], "empty": b"", "longer": data + b"x"}[harm])
    with pytest.raises(CorruptModelError):
        store.paths(manifest)
    assert not store.has_blob(manifest.blobs[0].digest, manifest.blobs[0].size_bytes)
    add_model(store, "m", tiny(tmp_path))
    assert store.paths(manifest)[0].read_bytes() == data


@pytest.mark.parametrize("record", [None, b"{", b"[]"])
def test_a_blob_whose_record_was_lost_is_hashed_and_trusted_again(
    store: ModelStore, tmp_path: Path, record: bytes | None
) -> None:
    manifest = add_model(store, "m", tiny(tmp_path))
    (path,) = (store.root / "records").iterdir()
    if record is None:
        path.unlink()
    else:
        path.write_bytes(record)
    with pytest.raises(CorruptModelError, match="changed"):
        store.paths(manifest)
    assert store.has_blob(manifest.blobs[0].digest, manifest.blobs[0].size_bytes)
    assert store.paths(manifest)


# -- partial files and staging


def test_a_partial_file_rests_and_resumes_with_what_lies_beside_it(store: ModelStore) -> None:
    with store.partial("key") as part:
        part.path.write_bytes(b"abc")
        (part.directory / "etag").write_text("1")
    with store.partial("key") as part:
        assert part.path.read_bytes() == b"abc"
        assert (part.directory / "etag").read_text() == "1"
        assert os.fspath(part) == str(part.path)
        part.discard()
        assert not part.path.exists()
    with store.partial("other") as part:
        assert not part.path.exists()
    assert files_in(store, "work") == []


def test_a_failed_download_rests_a_wrong_one_does_not(store: ModelStore) -> None:
    def attempt(error: BaseException) -> bool:
        with pytest.raises(type(error)), store.partial("key") as part:  # noqa: PT012
            part.path.write_bytes(b"abc")
            raise error
        return bool(files_in(store, "work"))

    assert attempt(ConnectionError())
    assert not attempt(DigestMismatchError("wrong bytes"))
    assert not attempt(DiskFullError("full"))
    assert attempt(KeyboardInterrupt())


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT"])
def test_no_room_is_an_error_of_the_tree_and_the_room_is_given_back(store: ModelStore, code: str) -> None:
    if not hasattr(errno, code):
        pytest.skip(f"this system has no {code}")
    with pytest.raises(DiskFullError) as caught, store.partial("key") as part:  # noqa: PT012
        part.path.write_bytes(b"x" * 100_000)
        raise OSError(getattr(errno, code), "full", str(part.path))
    assert caught.value.facts["free_bytes"] > 0
    assert files_in(store, "work") == []


def test_room_is_looked_for_first(store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.check_free(1)
    with pytest.raises(DiskFullError) as caught:
        store.check_free(2**62)
    assert caught.value.facts["needed_bytes"] == 2**62
    assert not store.root.exists()
    monkeypatch.setattr(files, "free_bytes", lambda _path: 10)
    with pytest.raises(DiskFullError):
        store.ingest(tiny(tmp_path), digest=None)
    assert files_in(store, "work") == files_in(store, "blobs") == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_while_writing_a_manifest_leaves_no_model(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = add_model(store, "a", tiny(tmp_path))
    real = files.create_private

    def full(path: Path) -> object:
        real(path).close()
        return open("/dev/full", "w+b", buffering=0)

    monkeypatch.setattr(files, "create_private", full)
    with pytest.raises(DiskFullError):
        store.add(msgspec.structs.replace(manifest, name="b"))
    monkeypatch.undo()
    assert [m.name for m in store.list()] == ["a"]
    assert files_in(store, "work") == []
    store.copy("a", "b")


def test_staging_is_private_and_goes(store: ModelStore) -> None:
    with store.staging() as path:
        (path / "x").write_bytes(b"x")
        assert path.is_relative_to(store.root)
    assert files_in(store, "work") == files_in(store, "locks") == []
    with pytest.raises(ValueError, match="boom"), store.staging() as path:
        raise ValueError("boom")
    assert files_in(store, "work") == []


CHILD_DIES = """
import os, sys
from pathlib import Path
from localllm.store.store import ModelStore
store = ModelStore(Path(sys.argv[1]))
with store.staging() as staging, store.partial("key") as part:
    (staging / "x").write_bytes(b"x" * 1000)
    part.path.write_bytes(b"abc")
    os._exit(9)
"""


def test_what_a_dead_process_left_is_swept_and_its_download_resumed(store: ModelStore) -> None:
    subprocess.run([sys.executable, "-c", CHILD_DIES, str(store.root)], check=False)
    assert len(files_in(store, "work")) == 2
    with store.partial("key") as part:
        assert part.path.read_bytes() == b"abc"
        assert files_in(store, "work") == [part.directory.name]
    report = store.prune(min_age_s=0, dry_run=True)
    assert (report.num_leftovers, report.freed_bytes, report.dry_run) == (1, 3, True)
    assert files_in(store, "work")
    assert store.prune(min_age_s=0).num_leftovers == 1
    assert files_in(store, "work") == []


# -- leases


def test_a_leased_model_is_not_removed(store: ModelStore, tmp_path: Path) -> None:
    manifest = add_model(store, "m", tiny(tmp_path))
    with store.lease(manifest):
        with pytest.raises(ModelInUseError) as caught:
            ModelStore(store.root).remove("m")
        assert str(os.getpid()) in str(caught.value.hint)
        assert store.list() == [manifest]
    store.remove("m")


def test_the_blobs_of_a_leased_model_survive_its_replacement(store: ModelStore, tmp_path: Path) -> None:
    old = add_model(store, "m", tiny(tmp_path, 1))
    with store.lease(old):
        add_model(store, "m", tiny(tmp_path, 2))
        assert store.paths(old)
        assert store.prune(min_age_s=0).blobs == ()
    assert store.prune(min_age_s=0).blobs == (old.blobs[0].digest,)


def test_a_lease_on_a_model_that_went_is_refused(store: ModelStore, tmp_path: Path) -> None:
    manifest = add_model(store, "m", tiny(tmp_path))
    store.remove("m")
    with pytest.raises(ModelNotFoundError), store.lease(manifest):
        pass


CHILD_LEASES = """
import sys
from pathlib import Path
from localllm.store.store import ModelStore
store = ModelStore(Path(sys.argv[1]))
with store.lease(store.get("m")):
    print("leased", flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_holds_no_lease(store: ModelStore, tmp_path: Path) -> None:
    add_model(store, "m", tiny(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", CHILD_LEASES, str(store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"leased"
        with pytest.raises(ModelInUseError):
            store.remove("m")
        child.kill()
        child.wait()
        assert store.remove("m") > 0
    assert files_in(store, "leases") == []


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_cannot_be_written_still_serves(store: ModelStore, tmp_path: Path) -> None:
    manifest = add_model(store, "m", tiny(tmp_path))
    for path in [*store.root.rglob("*"), store.root]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        with store.lease(manifest):
            assert ModelStore(store.root).paths(manifest)
    finally:
        for path in [store.root, *store.root.rglob("*")]:
            path.chmod(0o700)


# -- prune


def test_prune_removes_only_what_nothing_names(store: ModelStore, tmp_path: Path) -> None:
    kept = add_model(store, "m", tiny(tmp_path, 1))
    orphan = store.ingest(tiny(tmp_path, 2), digest=None)
    assert store.prune().blobs == ()  # it may belong to a pull under way
    dry = store.prune(dry_run=True, min_age_s=0)
    assert dry.blobs == (orphan.digest,)
    assert dry.freed_bytes == orphan.size_bytes
    assert len(files_in(store, "blobs")) == 2
    assert store.prune(min_age_s=0).freed_bytes == orphan.size_bytes
    assert store.paths(kept)
    assert files_in(store, "locks") == ["store.lock"]


def test_prune_waits_for_a_download_under_way(store: ModelStore, tmp_path: Path) -> None:
    shard = store.ingest(tiny(tmp_path, 1), digest=None)
    with store.partial("second shard") as part:
        part.path.write_bytes(b"x")
        report = ModelStore(store.root).prune(min_age_s=0)
        assert (report.blobs, report.num_leftovers) == ((), 0)
        assert part.path.exists()
    assert store.prune(min_age_s=0).blobs == (shard.digest,)


def test_a_strange_file_in_the_store_harms_nothing(store: ModelStore, tmp_path: Path) -> None:
    add_model(store, "m", tiny(tmp_path))
    for strange in ("blobs/notes.txt", "records/x", "manifests/README", "work/mine", "leases/x", ".DS_Store"):
        (store.root / strange).write_text("x")
    assert store.prune(min_age_s=0).blobs == ()
    assert [m.name for m in store.list()] == ["m"]
    assert utc_now() >= store.get("m").created
    assert (store.root / "blobs" / "notes.txt").exists()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names there are text")
def test_a_file_name_that_is_no_text_is_refused(store: ModelStore, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.gguf"))
    shutil.copyfile(tiny(tmp_path), odd)
    blob = store.ingest(odd, digest=None, link=True)
    manifest = add_model(store, "m", tiny(tmp_path))
    with pytest.raises(StoreError, match="UTF-8"):
        store.add(msgspec.structs.replace(manifest, name="n", blobs=(blob,)))
    assert [m.name for m in store.list()] == ["m"]


def test_a_store_that_is_no_directory_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot read the model store"):
        ModelStore(tmp_path / "file" / "store").list()
