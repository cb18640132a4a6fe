"""ModelStore: the models of one user on disk. Puts blobs, manifests, leases and unfinished work together.

What must always hold, also after kill -9 between any two steps: a listed model is whole. So bytes come first and the
manifest last; removing goes the other way round. Everything between is unreferenced and goes with `prune`.
Downloads nothing and loads nothing.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from localllm.api import Progress
from localllm.errors import CorruptModelError, LocalLLMError, ModelInUseError, ModelNotFoundError, StoreError
from localllm.store.blobs import BlobFiles, State, bad_blob
from localllm.store.files import check_free, hash_file, open_regular, os_errors, private_dir, sync_dir, write_atomic
from localllm.store.leases import Leases
from localllm.store.locks import locked
from localllm.store.manifest import (
    MAX_MANIFEST_BYTES,
    Blob,
    Manifest,
    check_digest,
    check_manifest,
    decode_manifest,
    encode_manifest,
    manifest_stem,
)
from localllm.store.work import Partial, Workspace

log = logging.getLogger(__name__)

_SUBDIRS = ("blobs", "records", "manifests", "work", "locks", "leases")
ORPHAN_AGE_S = 300.0

# Inside ModelStore `list` is its method.
_Paths = list[Path]
_Digests = list[str]


class BlobState(msgspec.Struct, frozen=True):
    """One blob after `verify`. `path` is the file that was read."""

    blob: Blob
    state: Literal["ok", "corrupt", "missing"]
    path: str


_BlobStates = list[BlobState]


class PruneReport(msgspec.Struct, frozen=True):
    """What `prune` removed, or would: blobs no model names, unfinished downloads, what killed processes left."""

    freed_bytes: int
    blobs: tuple[str, ...]
    num_leftovers: int
    dry_run: bool = False


class ModelStore:
    """Manifests and blobs under `root`. Nothing is made before the first write: directories 0700, files 0600."""

    def __init__(self, root: Path) -> None:
        root = root.expanduser()
        self.root = root.resolve() if root.exists() else root.absolute()
        self._blobs = BlobFiles(self.root)
        self._work = Workspace(self.root)
        self._leases = Leases(self.root)
        self._manifests = self.root / "manifests"
        self._swept = False

    # -- reading

    def get(self, name: str) -> Manifest:
        """The manifest of `name`. Raises ModelNotFoundError, or CorruptModelError where its file does not read."""
        path = self._manifest_path(name)
        try:
            with os_errors("read the model store", self.root):
                manifest = self._read_manifest(path)
        except StoreError as exc:
            if isinstance(exc.__cause__, (FileNotFoundError, NotADirectoryError)):
                raise self._not_found(name) from None
            raise
        if manifest.name != name:
            raise CorruptModelError(f"the manifest of {name} names {manifest.name}", hint="pull it again", name=name)
        return manifest

    def list(self) -> list[Manifest]:
        """Every model that reads, by name; a manifest that does not is warned of in the log and left out."""
        found = []
        for path in self._manifest_files():
            try:
                manifest = self._read_manifest(path)
            except FileNotFoundError:
                continue  # removed since the directory was read
            except (OSError, LocalLLMError) as exc:
                log.warning("model file %s is skipped: %s", path.name, exc)
                continue
            if self._manifest_path(manifest.name) == path:
                found.append(manifest)
            else:
                log.warning("model file %s is skipped: it names %s", path.name, manifest.name)
        return sorted(found, key=lambda manifest: manifest.name)

    def paths(self, manifest: Manifest, *, role: Literal["model", "mmproj"] = "model") -> _Paths:
        """The files of a model in order, each looked at (not read): of its size, unchanged since it was verified.

        Raises CorruptModelError, which names the model and the blob, for any that is not.
        """
        found = []
        for blob in manifest.blobs:
            if blob.role == role:
                state = self.state(blob)
                path = self._blobs.path(blob.digest)
                if state != "ok":
                    raise bad_blob(manifest.name, blob, state, path)
                found.append(path)
        return found

    def blob_path(self, digest: str) -> Path:
        """Where the bytes of a blob are: in the store, or in another program's where it was adopted by reference."""
        return self._blobs.path(check_digest(digest))

    def state(self, blob: Blob) -> State:
        """How a blob looks without reading it: "ok", "changed" since it was verified, "corrupt" or "missing"."""
        with os_errors("read the model store", self.root):
            return self._blobs.state(blob)

    def has_blob(self, digest: str, size_bytes: int) -> bool:
        """True when these bytes are in the store and right (read in full only where the file's look has changed)."""
        with os_errors("read the model store", self.root):
            return self._blobs.has(check_digest(digest), size_bytes)

    # -- bringing bytes in

    def check_free(self, needed_bytes: int) -> None:
        """Raise DiskFullError unless the store's disk has room for `needed_bytes`."""
        check_free(self.root, needed_bytes)

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A private directory on the store's file system for the block. After a kill the next write removes it."""
        self._prepare()
        with self._work.staging() as path:
            yield path

    @contextlib.contextmanager
    def partial(self, key: str, *, on_wait: Callable[[], None] | None = None) -> Iterator[Partial]:
        """The resumable file of the download called `key`, for this process alone; waits while another has it.

        After waiting, ask `has_blob` first: the other may have finished. `ingest(part.path)` takes the file away; what
        is left rests for the next try, unless the block raised DiskFullError or DigestMismatchError. `on_wait` is
        called at each look (about 20 a second) and may raise to give up.
        """
        self._prepare()
        with self._work.partial(key, on_wait) as part:
            yield part

    def ingest(
        self,
        path: Path,
        *,
        digest: str | None,
        link: bool = False,
        filename: str | None = None,
        role: Literal["model", "mmproj"] = "model",
        on_bytes: Callable[[int], None] | None = None,
    ) -> Blob:
        """Make a file a blob. `digest`: the caller has hashed it already; None: it is hashed here (`on_bytes`: so far).

        A file under the store's root is moved. Any other is copied, or with `link` registered without copying: reflink,
        hard link, or a reference to where it lies. Nothing becomes visible before `add`. `filename` and `role` are what
        the Blob will say; the file's own name where None.
        """
        self._prepare()
        if digest is not None:
            check_digest(digest)
        with os_errors(f"take {path} into the model store", self.root):
            if link:
                found, size = self._blobs.link_in(path, digest, on_bytes)
            elif path.absolute().is_relative_to(self.root):
                if digest is None:
                    with open_regular(path) as file:
                        digest = hash_file(file, on_bytes)
                else:
                    open_regular(path).close()
                found, size = digest, self._blobs.move_in(path, digest)
            else:
                found, size = self._blobs.copy_in(path, digest, on_bytes)
        if digest is not None and found != digest:
            raise CorruptModelError(f"{path} is not {digest}", hint="it changed while it was being copied", blob=digest)
        return Blob(found, size, filename or path.name, role)

    # -- models

    def add(self, manifest: Manifest) -> None:
        """Publish a model, whole or not at all; one of that name is replaced and its own blobs are removed.

        Raises CorruptModelError when a blob it names is not here.
        """
        check_manifest(manifest)
        self._prepare()
        with self._locked(), os_errors(f"write the manifest of {manifest.name}", self.root):
            for blob in manifest.blobs:
                if not self._blobs.has(blob.digest, blob.size_bytes):
                    raise bad_blob(manifest.name, blob, self._blobs.state(blob), self._blobs.path(blob.digest))
            path = self._manifest_path(manifest.name)
            before = self._try_read(path)
            write_atomic(path, encode_manifest(manifest), self._work.work_dir)
            if before is not None:
                self._drop_blobs(before)

    def remove(self, name: str) -> int:
        """Take a model out; returns the bytes freed. Blobs that another model names, or a process runs from, stay.

        Raises ModelNotFoundError, or ModelInUseError while a live process holds a lease.
        """
        path = self._manifest_path(name)
        if not path.exists():
            raise self._not_found(name)
        self._prepare()
        with self._locked(), os_errors(f"remove {name}", self.root):
            for lease in self._leases.live():
                if lease.name == name:
                    hint = f"process {lease.pid} runs it: stop that first (`localllm stop {name}`)"
                    raise ModelInUseError(f"{name} is in use", hint=hint, name=name, pid=lease.pid)
            manifest = self._try_read(path)
            try:
                path.unlink()
            except FileNotFoundError:
                raise self._not_found(name) from None
            sync_dir(self._manifests)
            return self._drop_blobs(manifest) if manifest is not None else 0

    def copy(self, source: str, target: str) -> None:
        """Give a model a second name; the bytes are shared. A different model called `target` is not overwritten."""
        manifest = msgspec.structs.replace(self.get(source), name=target)
        with contextlib.suppress(ModelNotFoundError):
            if self.get(target).blobs != manifest.blobs:
                raise StoreError(f"{target} exists already", hint=f"`localllm rm {target}` first", name=target)
        self.add(manifest)

    @contextlib.contextmanager
    def lease(self, manifest: Manifest) -> Iterator[None]:
        """Keep a model from being removed for the block. Ends with the process that took it, however that ends."""
        held = None
        digests = tuple(blob.digest for blob in manifest.blobs)
        with contextlib.ExitStack() as stack:
            try:
                self._prepare()
                stack.enter_context(self._locked())
            except (OSError, StoreError) as exc:
                log.warning("no lease on %s: %s", manifest.name, exc)
            else:
                self.get(manifest.name)
                held = self._leases.take(manifest.name, digests)
        try:
            yield
        finally:
            if held is not None:
                held.release(unlink=True)

    # -- care

    def prune(self, *, dry_run: bool = False, min_age_s: float = ORPHAN_AGE_S) -> PruneReport:
        """Remove blobs that no model names, unfinished downloads, and what killed processes left.

        Blobs and partial files younger than `min_age_s`, and all blobs while a download is under way, are left: they
        may belong to a model that is about to be added.
        """
        if not self.root.exists():
            return PruneReport(0, (), 0, dry_run)
        self._prepare()
        with self._locked(), os_errors("prune the model store", self.root):
            busy = self._work.partial_is_busy()
            count, freed = self._work.sweep(partials=True, min_age_s=min_age_s, dry_run=dry_run)
            orphans = [] if busy else self._orphans(min_age_s)
            for digest in orphans:
                freed += self._blobs.freeable(digest) if dry_run else self._blobs.remove(digest)
        return PruneReport(freed, tuple(orphans), count, dry_run)

    def verify(self, name: str, on_progress: Callable[[Progress], None] | None = None) -> _BlobStates:
        """Read every byte of a model against its digests. What is found is remembered: `paths` refuses a corrupt blob,
        and one that only looked changed is trusted again."""
        manifest = self.get(name)
        found, done, total = [], 0, manifest.size_bytes
        for blob in manifest.blobs:

            def report(n: int, blob: Blob = blob, done: int = done) -> None:
                if on_progress is not None:
                    on_progress(Progress("verify", blob.filename, done + n, total))

            with os_errors(f"verify {name}", self.root):
                path = self._blobs.path(blob.digest)
                state = self._blobs.check(blob.digest, report)
            assert state != "changed"
            found.append(BlobState(blob, state, str(path)))
            done += blob.size_bytes
        return found

    # -- inside

    def _prepare(self) -> None:
        """Make the directories, and once per instance sweep what killed processes left."""
        with os_errors("write the model store", self.root):
            private_dir(self.root, deny=0o022)
            for name in _SUBDIRS:
                private_dir(self.root / name)
            if not self._swept:
                self._swept = True
                self._work.sweep()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            with os_errors("lock the model store", self.root):
                stack.enter_context(locked(self.root / "locks" / "store.lock"))
            yield

    def _manifest_path(self, name: str) -> Path:
        return self._manifests / f"{manifest_stem(name)}.json"

    def _manifest_files(self) -> _Paths:
        try:
            with os_errors("read the model store", self.root):
                return sorted(path for path in self._manifests.iterdir() if path.suffix == ".json")
        except StoreError as exc:
            if isinstance(exc.__cause__, FileNotFoundError):
                return []
            raise

    def _read_manifest(self, path: Path) -> Manifest:
        with open_regular(path) as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
        if len(data) > MAX_MANIFEST_BYTES:
            raise CorruptModelError(f"the manifest {path.name} is over {MAX_MANIFEST_BYTES} bytes", name=path.name)
        return decode_manifest(data, path.name)

    def _try_read(self, path: Path) -> Manifest | None:
        try:
            return self._read_manifest(path)
        except (OSError, LocalLLMError):
            return None

    def _not_found(self, name: str) -> ModelNotFoundError:
        near = difflib.get_close_matches(name, [manifest.name for manifest in self.list()], n=3)
        hint = (
            f"installed: {', '.join(near)}"
            if near
            else f"`localllm pull {name}` fetches it, `localllm list` shows what is here"
        )
        return ModelNotFoundError(f"no model {name} here", hint=hint, name=name)

    def _drop_blobs(self, manifest: Manifest) -> int:
        """Remove the blobs of a manifest that nothing else needs; one the system will not let go stays for `prune`."""
        kept = self._needed()
        freed = 0
        for digest in {blob.digest for blob in manifest.blobs} - kept:
            try:
                freed += self._blobs.remove(digest)
            except PermissionError as exc:
                log.warning("blob %s stays for now: %s", digest, exc.strerror)
        return freed

    def _needed(self) -> set[str]:
        """Digests some manifest or live lease names. An unreadable manifest may name any: then all are needed."""
        needed = {digest for lease in self._leases.live() for digest in lease.digests}
        for path in self._manifest_files():
            manifest = self._try_read(path)
            if manifest is None:
                if not path.exists():
                    continue
                log.warning("model file %s does not read; no blob is removed until it is gone", path.name)
                return needed | set(self._blobs.digests())
            needed.update(blob.digest for blob in manifest.blobs)
        return needed

    def _orphans(self, min_age_s: float) -> _Digests:
        needed, now = self._needed(), time.time()
        return [d for d, written in self._blobs.digests().items() if d not in needed and now - written >= min_age_s]
