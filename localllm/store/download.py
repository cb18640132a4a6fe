"""Downloading one file over HTTP so that it ends verified or with a named error.

Owns the promise about bytes: what `download` returns was read back and hashed. How the bytes travel is `transfer`.
Knows nothing of the store: it fills the file it is given, and may keep a small file beside it for the next try.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from localllm.errors import DigestMismatchError, DiskFullError
from localllm.store import ranges
from localllm.store.addresses import origin_of
from localllm.store.files import hash_file, open_regular, os_errors
from localllm.store.pull_settings import PullSettings
from localllm.store.sources.remote import RemoteFile
from localllm.store.transfer import Transfer, check_cancelled
from localllm.store.web import Web

log = logging.getLogger(__name__)


def download(
    file: RemoteFile,
    path: Path,
    web: Web,
    settings: PullSettings,
    *,
    on_bytes: Callable[[int, int | None], None] | None = None,
    on_verify: Callable[[int, int], None] | None = None,
    cancelled: threading.Event | None = None,
) -> str:
    """Fill `path` with a file and return its digest, `sha256:<hex>`; what an earlier try left there is used.

    `on_bytes(done, total)` and `on_verify(done, total)` are called in this thread. When `cancelled` is set it raises
    concurrent.futures.CancelledError; what arrived stays for the next try. Wrong bytes and a full disk leave nothing.
    Raises DownloadError, AccessDeniedError, ModelNotFoundError, DigestMismatchError, DiskFullError, StoreError.
    """
    stop = cancelled or threading.Event()
    with os_errors(f"write {path}", path.parent):
        try:
            resumed = Transfer(file, path, web, settings, stop).run(on_bytes)
            digest = _hash(path, on_verify, stop)
            if resumed and not _is_promised(file, digest):
                # The bytes of an earlier try, perhaps from another source, may be the wrong ones.
                log.warning("%s resumed to the wrong bytes; it is fetched once more from its start", file.filename)
                _delete(path)
                Transfer(file, path, web, settings, stop).run(on_bytes)
                digest = _hash(path, on_verify, stop)
        except DiskFullError:
            _delete(path)
            raise
        if not _is_promised(file, digest):
            _delete(path)
            raise DigestMismatchError(
                f"{origin_of(file.url).host} sent other bytes for {file.filename} than promised",
                hint="nothing was kept; try again, or another source",
                expected=f"sha256:{file.sha256}",
                found=digest,
            )
        ranges.forget(path.parent)
    return digest


def _is_promised(file: RemoteFile, digest: str) -> bool:
    return file.sha256 is None or digest == f"sha256:{file.sha256}"


def _hash(path: Path, on_verify: Callable[[int, int], None] | None, stop: threading.Event) -> str:
    size = path.stat().st_size

    def on_hashed(done: int) -> None:
        check_cancelled(stop)
        if on_verify is not None:
            on_verify(done, size)

    with open_regular(path) as data:
        return hash_file(data, on_hashed)


def _delete(path: Path) -> None:
    ranges.forget(path.parent)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
