"""The content-addressed files of the store, and the record kept beside each. Knows digests, not models.

`blobs/sha256-<hex>` holds the bytes: a file of ours, a reflink, or a hard link to another program's file.
`records/sha256-<hex>.json` says how the file looked when its bytes were last known to be right (size, time, inode), so
that a changed file is noticed without reading it. A blob may also be a reference: a record alone, with the path of a
file in another program's store, which is never written or deleted.

Order of writing: bytes made durable, then the blob's name, then the record. A blob with no fitting record is hashed
before it is trusted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from localllm.errors import CorruptModelError, StoreError
from localllm.store.files import (
    check_free,
    create_private,
    hash_file,
    open_regular,
    reflink,
    sync_dir,
    sync_file,
    write_atomic,
)
from localllm.store.manifest import Blob, digest_stem

log = logging.getLogger(__name__)

BlobKind = Literal["file", "reflink", "hardlink", "reference"]
OnBytes = Callable[[int], None] | None
State = Literal["ok", "changed", "corrupt", "missing"]


class BlobRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a blob's file looked when its bytes were known. `path`: the file linked to."""

    digest: str
    size_bytes: int
    mtime_ns: int
    ino: int
    kind: BlobKind = "file"
    path: str | None = None
    corrupt: bool = False


class BlobFiles:
    """Blobs and records under one store root. Callers serialise writers with the store's lock where locks work."""

    def __init__(self, root: Path) -> None:
        self.blobs_dir = root / "blobs"
        self.records_dir = root / "records"
        self.work_dir = root / "work"

    def record(self, digest: str) -> BlobRecord | None:
        """What was recorded of a blob; None: nothing that reads."""
        try:
            with open_regular(self._record_path(digest)) as file:
                found = msgspec.json.decode(file.read(1 << 16), type=BlobRecord)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, StoreError) as exc:
            log.warning("the record of blob %s does not read, so the blob will be hashed again: %s", digest, exc)
            return None
        return found if found.digest == digest else None

    def path(self, digest: str) -> Path:
        """Where a blob's bytes are, or would be."""
        own = self.blobs_dir / digest_stem(digest)
        record = self.record(digest)
        if record is not None and record.kind == "reference" and record.path is not None:
            return Path(record.path)
        return own

    def state(self, blob: Blob) -> State:
        """How a blob looks without reading it: "changed" may be wrong, "corrupt" is."""
        record = self.record(blob.digest)
        found = _lstat(self.path(blob.digest))
        if found is None:
            return "missing"
        if record is not None and record.corrupt and _fits(record, found):
            return "corrupt"
        if found.st_size != blob.size_bytes or not stat.S_ISREG(found.st_mode):
            return "corrupt"
        return "ok" if record is not None and _fits(record, found) else "changed"

    def has(self, digest: str, size_bytes: int) -> bool:
        """True when the bytes are here and right. Reads the whole file where its look has changed."""
        state = self.state(Blob(digest, size_bytes, ""))
        if state == "changed":
            state = self.check(digest)
        return state == "ok"

    def check(self, digest: str, on_bytes: OnBytes = None) -> State:
        """Read every byte of a blob against its digest and record the outcome: "ok", "corrupt" or "missing"."""
        path, record = self.path(digest), self.record(digest)
        try:
            with open_regular(path) as file:
                good = hash_file(file, on_bytes) == digest
                found = os.fstat(file.fileno())
        except FileNotFoundError:
            return "missing"
        except StoreError:
            return "corrupt"
        kind: BlobKind = record.kind if record is not None else "file"
        source = record.path if record is not None else None
        with contextlib.suppress(OSError):  # a store we may only read can still be verified
            self._write_record(_record_of(found, digest, kind, source, corrupt=not good))
        return "ok" if good else "corrupt"

    def move_in(self, path: Path, digest: str) -> int:
        """Make a verified file of ours, on the store's file system, the blob. Its old name is gone afterwards."""
        size = os.lstat(path).st_size
        if self.has(digest, size):
            path.unlink()
            return size
        path.chmod(0o600)
        sync_file(path)
        self._publish(path, digest, "file", None)
        return size

    def copy_in(self, path: Path, digest: str | None, on_bytes: OnBytes = None) -> tuple[str, int]:
        """Copy a file from elsewhere into the store, hashing on the way. Returns its digest and size."""
        with open_regular(path) as source:
            size = os.fstat(source.fileno()).st_size
            if digest is not None and self.has(digest, size):
                return digest, size
            check_free(self.work_dir, size)
            temp = self._temp()
            try:
                with create_private(temp) as target:
                    tee = _Tee(source, target)
                    found = hash_file(tee, on_bytes)  # type: ignore[arg-type]
                    target.flush()
                self.move_in(temp, found)
            except BaseException:
                temp.unlink(missing_ok=True)
                raise
        return found, size

    def link_in(self, path: Path, digest: str | None, on_bytes: OnBytes = None) -> tuple[str, int]:
        """Register a file from elsewhere without copying it: reflink, else hard link, else a reference to its path."""
        path = path.resolve()
        with open_regular(path) as source:
            before = os.fstat(source.fileno())
            found = digest or hash_file(source, on_bytes)
            if self.has(found, before.st_size):
                return found, before.st_size
            temp = self._temp()
            kind = _link(path, temp)
            try:
                if not _same_look(before, os.stat(path, follow_symlinks=False)):
                    raise OSError(None, "the file changed while it was being read", str(path))
                if kind == "reference":
                    if not _is_text(path):
                        hint = "rename it, or copy it into a directory with a plain name"
                        raise StoreError(f"the path {str(path)!r} is no UTF-8, so it cannot be recorded", hint=hint)
                    self._write_record(_record_of(before, found, kind, str(path)))
                    with contextlib.suppress(FileNotFoundError):
                        (self.blobs_dir / digest_stem(found)).unlink()
                else:
                    if kind == "reflink":
                        temp.chmod(0o600)
                        sync_file(temp)
                    self._publish(temp, found, kind, str(path) if _is_text(path) else None)
            finally:
                temp.unlink(missing_ok=True)
        return found, before.st_size

    def remove(self, digest: str) -> int:
        """Take a blob out of the store; returns the bytes this frees. Another program's file is never touched."""
        freed = self.freeable(digest)
        (self.blobs_dir / digest_stem(digest)).unlink(missing_ok=True)
        self._record_path(digest).unlink(missing_ok=True)
        return freed

    def freeable(self, digest: str) -> int:
        """Bytes that removing a blob would give back: none for a reference, or a link whose other end still exists."""
        found = _lstat(self.blobs_dir / digest_stem(digest))
        if found is None or found.st_nlink > 1 or _shares(self.record(digest)):
            return 0
        return found.st_size

    def digests(self) -> dict[str, float]:
        """Every digest that has a blob or a record, with the time its newest file was written (seconds)."""
        found: dict[str, float] = {}
        for directory, suffix in ((self.blobs_dir, ""), (self.records_dir, ".json")):
            for entry in _scan(directory):
                digest = entry.name.removesuffix(suffix).replace("-", ":", 1)
                if digest.startswith("sha256:") and len(digest) == 71:
                    written = entry.stat(follow_symlinks=False).st_ctime
                    found[digest] = max(found.get(digest, 0.0), written)
        return found

    def _publish(self, temp: Path, digest: str, kind: BlobKind, source: str | None) -> None:
        own = self.blobs_dir / digest_stem(digest)
        try:
            temp.replace(own)
        except PermissionError:
            # Windows refuses to replace a file another process has open.
            if sys.platform != "win32" or self.check(digest) != "ok":
                raise
            temp.unlink()
        sync_dir(self.blobs_dir)
        while True:
            # Where locks do nothing another process may put its copy of the same bytes here between our two steps.
            self._write_record(_record_of(os.lstat(own), digest, kind, source))
            record, found = self.record(digest), _lstat(own)
            if found is None or (record is not None and _fits(record, found)):
                return

    def _write_record(self, record: BlobRecord) -> None:
        write_atomic(self._record_path(record.digest), msgspec.json.encode(record), self.work_dir)

    def _record_path(self, digest: str) -> Path:
        return self.records_dir / f"{digest_stem(digest)}.json"

    def _temp(self) -> Path:
        return self.work_dir / f"t-{os.getpid()}-{os.urandom(8).hex()}"


def bad_blob(name: str, blob: Blob, state: State, path: Path) -> CorruptModelError:
    """The error for a blob of the model `name` that is not "ok", with what mends it."""
    what = {
        "missing": f"{path} is not there",
        "corrupt": f"{path} does not hold the bytes of {blob.digest}",
        "changed": f"{path} was changed since it was verified",
        "ok": f"{path} went away",
    }[state]
    hint = f"`localllm verify {name}` reads it in full" if state == "changed" else f"`localllm pull {name}` mends it"
    return CorruptModelError(f"{name}: {what}", hint=hint, name=name, blob=blob.digest, path=str(path))


class _Tee:
    """Reads from one file and writes what it read to another."""

    def __init__(self, source: object, target: object) -> None:
        self._read, self._write = source.readinto, target.write  # type: ignore[attr-defined]

    def readinto(self, buffer: bytearray) -> int:
        n: int = self._read(buffer)
        self._write(memoryview(buffer)[:n])
        return n


def _is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _link(source: Path, target: Path) -> BlobKind:
    if reflink(source, target):
        return "reflink"
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        return "reference"  # another file system, none with links, or a file whose owner forbids it
    return "hardlink"


def _record_of(
    found: os.stat_result, digest: str, kind: BlobKind, source: str | None, *, corrupt: bool = False
) -> BlobRecord:
    return BlobRecord(digest, found.st_size, found.st_mtime_ns, found.st_ino, kind, source, corrupt)


def _fits(record: BlobRecord, found: os.stat_result) -> bool:
    same = (record.size_bytes, record.mtime_ns, record.ino) == (found.st_size, found.st_mtime_ns, found.st_ino)
    return same and stat.S_ISREG(found.st_mode)


def _same_look(a: os.stat_result, b: os.stat_result) -> bool:
    return (a.st_size, a.st_mtime_ns, a.st_ino) == (b.st_size, b.st_mtime_ns, b.st_ino)


def _shares(record: BlobRecord | None) -> bool:
    """True when the blocks of a reflink are still used by the file it was cloned from."""
    if record is None or record.kind != "reflink" or record.path is None:
        return False
    found = _lstat(Path(record.path))
    return found is not None and found.st_size == record.size_bytes


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _scan(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
