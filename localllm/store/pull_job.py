"""One pull: the sources of a model in turn, its files into the store, its manifest last.

What is here already (this store, or another program on this machine) is linked instead of fetched. Sources say where
files are, `download` fetches them, the store keeps them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from localllm.api import Progress, SamplingParams
from localllm.errors import (
    AccessDeniedError,
    DigestMismatchError,
    DownloadError,
    GGUFError,
    LocalLLMError,
    ModelNotFoundError,
    OfflineError,
    StoreError,
)
from localllm.name import ModelName
from localllm.store import sources
from localllm.store.describe import describe
from localllm.store.download import download
from localllm.store.files import hash_file, open_regular, os_errors
from localllm.store.gguf import read_gguf
from localllm.store.here import Here
from localllm.store.manifest import Blob, Manifest, utc_now
from localllm.store.pull_settings import PullSettings
from localllm.store.sources.remote import Context, LocalFile, RemoteFile, Resolved
from localllm.store.store import ModelStore
from localllm.store.transfer import check_cancelled
from localllm.store.web import Web

if TYPE_CHECKING:
    from localllm.catalog import Variant

log = logging.getLogger(__name__)

_TRY_NEXT = (DownloadError, ModelNotFoundError, GGUFError)


class PullJob:
    """One pull, under the lock of its model. `variant`: the catalogue's entry, None where a source was named itself."""

    def __init__(
        self,
        key: str,
        store: ModelStore,
        settings: PullSettings,
        *,
        variant: Variant | None,
        report: Callable[[Progress], None],
        cancelled: threading.Event,
    ) -> None:
        self._key = key
        self._store = store
        self._settings = settings
        self._variant = variant
        self._report = report
        self._cancelled = cancelled
        self._here = Here()
        self._waited = False
        # Bytes of the files before this one, and of all together (None: not known).
        self._before = 0
        self._total: int | None = None

    def wait(self) -> None:
        """Called while another process or thread holds the lock."""
        check_cancelled(self._cancelled)
        if not self._waited:
            self._waited = True
            self._report(Progress("resolve", f"another process fetches {self._key}"))

    def run(self, names: list[ModelName]) -> Manifest:
        """Try the sources in turn and publish what the first good one delivers."""
        resolved = self._already_here(names)
        if resolved is not None:
            try:
                return self._publish(resolved, self._take_all(resolved, None))
            except (*_TRY_NEXT, StoreError) as exc:
                log.warning("what is here of %s cannot be used: %s", self._key, exc)
        tried: list[tuple[ModelName, LocalLLMError]] = []
        for source in names:
            check_cancelled(self._cancelled)
            try:
                return self._from_source(source)
            except _TRY_NEXT as exc:
                tried.append((source, exc))
                if len(names) > 1:
                    more = f"; trying {names[len(tried)]}" if len(tried) < len(names) else ""
                    log.warning("%s: %s%s", source, exc, more)
        raise self._failure(tried)

    def _already_here(self, names: list[ModelName]) -> Resolved | None:
        """The bytes the catalogue names, when this store or another program has them; offline also by name."""
        variant = self._variant
        if variant is not None and variant.sha256 is not None:
            size, filename = variant.size_bytes, _filename(names[0], variant)
            if size is not None and self._store.has_blob(f"sha256:{variant.sha256}", size):
                file = RemoteFile("", filename, size_bytes=size, sha256=variant.sha256)
                return Resolved(str(names[0]), (file,))
            path = self._here.by_digest(variant.sha256, size)
            if path is not None:
                file_here = LocalFile(path, filename, sha256=variant.sha256, link=True)
                return Resolved(str(names[0]), (file_here,))
        if not self._settings.offline:
            return None
        for source in names:
            item = self._here.by_name(source)
            if item is not None:
                files = [
                    LocalFile(f.path, f.filename, _hex(f.digest), role=f.role, link=True)
                    for f in item.files
                    if f.role == "model" or self._settings.mmproj
                ]
                return Resolved(item.origin, tuple(files))
        return None

    def _from_source(self, source: ModelName) -> Manifest:
        if self._settings.offline and source.source not in sources.LOCAL:
            raise OfflineError(f"{source} is not on this machine", hint="without --offline it is downloaded")
        self._report(Progress("resolve", str(source)))
        with self._store.staging() as staging, self._web() as web:
            context = Context(
                self._settings,
                web,
                staging,
                report=self._report,
                cancelled=self._cancelled,
                size_bytes=self._promised_size(),
                sha256=self._variant.sha256 if self._variant is not None else None,
            )
            resolved = self._expect(sources.resolve(source, context), source)
            return self._publish(resolved, self._take_all(resolved, web))

    def _web(self) -> Web:
        settings = self._settings
        return Web(allow_hosts=settings.trusted_hosts(), connect_s=settings.connect_s, stall_s=settings.stall_s)

    def _promised_size(self) -> int | None:
        """The catalogue's size binds only with its digest; without one it is what was last seen."""
        variant = self._variant
        return variant.size_bytes if variant is not None and variant.sha256 is not None else None

    def _expect(self, resolved: Resolved, source: ModelName) -> Resolved:
        """The same files, held to the catalogue's digest; DigestMismatchError when the source itself names another."""
        sha256 = self._variant.sha256 if self._variant is not None else None
        models = [file for file in resolved.files if file.role == "model"]
        if sha256 is None or len(models) != 1:
            return resolved
        if models[0].sha256 not in (None, sha256):
            raise DigestMismatchError(
                f"{source} has other bytes than the catalogue names",
                hint="the repository was changed since; name it yourself to take what it has now",
                expected=f"sha256:{sha256}",
                found=f"sha256:{models[0].sha256}",
            )
        files = (msgspec.structs.replace(f, sha256=sha256) if f.role == "model" else f for f in resolved.files)
        return msgspec.structs.replace(resolved, files=tuple(files))

    def _take_all(self, resolved: Resolved, web: Web | None) -> list[Blob]:
        sizes = [f.size_bytes if isinstance(f, RemoteFile) else f.path.stat().st_size for f in resolved.files]
        known = [size for size in sizes if size is not None]
        self._before = 0
        self._total = sum(known) if len(known) == len(sizes) else None
        missing = [f for f in resolved.files if isinstance(f, RemoteFile) and self._stored(f) is None]
        if len(missing) > 1:  # a single file is looked at when its partial file is open: part of it may be here
            self._store.check_free(sum(f.size_bytes or 0 for f in missing))
        blobs = []
        for file in resolved.files:
            blobs.append(self._take_local(file) if isinstance(file, LocalFile) else self._take_remote(file, web))
            self._before += blobs[-1].size_bytes
        return blobs

    def _take_local(self, file: LocalFile) -> Blob:
        _check_sound(file.path, file.filename)
        digest = f"sha256:{file.sha256}" if file.sha256 is not None else None
        if digest is not None and file.link:
            digest = self._check_bytes(file.path, digest, file.filename)
        return self._store.ingest(
            file.path,
            digest=digest,
            link=file.link,
            filename=file.filename,
            role=file.role,
            on_bytes=lambda done: self._verifying(file.filename, done),
        )

    def _take_remote(self, file: RemoteFile, web: Web | None) -> Blob:
        stored = self._stored(file) or self._link_here(file)
        if stored is not None:
            return stored
        assert web is not None, "what was said to be here is not"
        with self._store.partial(file.sha256 or file.url, on_wait=self.wait) as part:
            stored = self._stored(file)  # another process may have finished it while this one waited
            if stored is not None:
                part.discard()
                return stored
            digest = download(
                file,
                part.path,
                web,
                self._settings,
                on_bytes=lambda done, size: self._downloading(file, done, size),
                on_verify=lambda done, _: self._verifying(file.filename, done),
                cancelled=self._cancelled,
            )
            try:
                read_gguf(part.path)
            except GGUFError as exc:
                part.discard()
                raise GGUFError(str(exc).replace(str(part.path), file.url), hint=exc.hint, url=file.url) from exc
            return self._store.ingest(part.path, digest=digest, filename=file.filename, role=file.role)

    def _stored(self, file: RemoteFile) -> Blob | None:
        if file.sha256 is None or file.size_bytes is None:
            return None
        digest = f"sha256:{file.sha256}"
        found = self._store.has_blob(digest, file.size_bytes)
        return Blob(digest, file.size_bytes, file.filename, file.role) if found else None

    def _link_here(self, file: RemoteFile) -> Blob | None:
        """Take a file from another program's store by a link; None where there is none, or its bytes are wrong."""
        path = self._here.by_digest(file.sha256, file.size_bytes) if file.sha256 is not None else None
        if path is None:
            return None
        try:
            blob = self._take_local(LocalFile(path, file.filename, file.sha256, role=file.role, link=True))
        except (OSError, LocalLLMError) as exc:
            log.warning("%s cannot be used: %s", path, exc)
            return None
        log.info("%s is linked from %s", file.filename, path)
        return blob

    def _check_bytes(self, path: Path, digest: str, filename: str) -> str:
        with os_errors(f"read {path}", path.parent), open_regular(path) as data:
            found = hash_file(data, lambda done: self._verifying(filename, done))
        if found != digest:
            raise DigestMismatchError(f"{path} is not {digest}", expected=digest, found=found)
        return digest

    def _publish(self, resolved: Resolved, blobs: list[Blob]) -> Manifest:
        provisional = Manifest(self._key, resolved.origin, tuple(blobs), utc_now())
        paths = {
            "model": iter(self._store.paths(provisional)),
            "mmproj": iter(self._store.paths(provisional, role="mmproj")),
        }
        variant = self._variant
        sampling = variant.sampling if variant is not None else SamplingParams()
        sampling = sampling if sampling != SamplingParams() else resolved.sampling
        manifest = describe(
            self._key,
            resolved.origin,
            blobs,
            [next(paths[blob.role]) for blob in blobs],
            licence=variant.licence if variant is not None else resolved.licence,
            quant=variant.quant if variant is not None else None,
            capabilities=_capabilities(variant, blobs),
            sampling=sampling if sampling != SamplingParams() else None,
            system=resolved.system,
            num_ctx=resolved.num_ctx,
        )
        self._store.add(manifest)
        return manifest

    def _failure(self, tried: list[tuple[ModelName, LocalLLMError]]) -> LocalLLMError:
        if len(tried) == 1:
            return tried[0][1]
        lines = [f"{source}: {exc}" for source, exc in tried]
        if all(isinstance(exc, OfflineError) for _, exc in tried):
            hint = "without --offline it is downloaded"
            return OfflineError(f"{self._key} is not on this machine", hint=hint, tried=lines)
        # What the user can do at a source that answered comes before a guess about the network.
        errors = sorted((exc for _, exc in tried), key=lambda exc: not isinstance(exc, AccessDeniedError))
        hints = [exc.hint for exc in errors if exc.hint]
        message = f"no source delivered {self._key}:\n  " + "\n  ".join(lines)
        return DownloadError(message, hint=hints[0] if hints else "is this machine online?", tried=lines)

    def _downloading(self, file: RemoteFile, done: int, size: int | None) -> None:
        total = self._total if self._total is not None else size if not self._before else None
        digest = f"sha256:{file.sha256}" if file.sha256 is not None else ""
        self._report(
            Progress(
                "download",
                file.filename,
                self._before + done,
                total,
                digest=digest,
                file_done=done,
                file_bytes=size or file.size_bytes,
            )
        )

    def _verifying(self, filename: str, done: int) -> None:
        check_cancelled(self._cancelled)
        self._report(Progress("verify", filename, self._before + done, self._total))


def _check_sound(path: Path, filename: str) -> None:
    """Refuse what is no GGUF before it gets into the store."""
    try:
        read_gguf(path)
    except OSError as exc:
        raise DownloadError(f"{filename} cannot be read: {exc.strerror or exc}") from exc


def _filename(source: ModelName, variant: Variant) -> str:
    named = (source.file or "").rpartition("/")[2]
    return named or f"{variant.name.replace(':', '-')}.gguf"


def _hex(digest: str | None) -> str | None:
    return digest.removeprefix("sha256:") if digest is not None else None


def _capabilities(variant: Variant | None, blobs: list[Blob]) -> tuple[str, ...] | None:
    """What the catalogue says, without sight where the part that sees was not fetched."""
    if variant is None:
        return None
    sees = any(blob.role == "mmproj" for blob in blobs)
    return tuple(c for c in variant.capabilities if c != "vision" or sees)
