"""Who runs which model right now: one locked file a use, which lapses with its process. Removes no model."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from localllm.errors import StoreError
from localllm.store.files import open_regular, private_dir
from localllm.store.locks import HeldLock, try_lock

log = logging.getLogger(__name__)


class LeaseInfo(msgspec.Struct, frozen=True):
    """What a live process said it uses."""

    name: str
    digests: tuple[str, ...]
    pid: int


class Leases:
    """`leases/` under one store root. Callers hold the store's lock in `take` and `live`."""

    def __init__(self, root: Path) -> None:
        self._dir = root / "leases"

    def take(self, name: str, digests: tuple[str, ...]) -> HeldLock | None:
        """Write and lock a lease file; None where the store cannot be written (models run from it all the same)."""
        info = LeaseInfo(name, digests, os.getpid())
        try:
            held = try_lock(private_dir(self._dir) / f"{os.getpid()}-{os.urandom(8).hex()}.json")
            assert held is not None, "a random name was taken"
            os.lseek(held.fd, 0, os.SEEK_SET)
            os.write(held.fd, msgspec.json.encode(info))
        except OSError as exc:
            if exc.errno not in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC):
                raise
            log.warning("no lease on %s: the store cannot be written (%s)", name, exc.strerror)
            return None
        return held

    def live(self) -> list[LeaseInfo]:
        """Leases of running processes; those of dead ones are cleared away."""
        return list(self._live())

    def _live(self) -> Iterator[LeaseInfo]:
        try:
            paths = sorted(self._dir.iterdir())
        except FileNotFoundError:
            return
        for path in paths:
            held = try_lock(path)
            if held is not None:
                held.release(unlink=True)
                continue
            with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError, StoreError), open_regular(path) as file:
                yield msgspec.json.decode(file.read(1 << 20), type=LeaseInfo)
