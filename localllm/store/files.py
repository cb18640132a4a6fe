"""File primitives of the store: private, never through a symbolic link, atomic, durable. Knows nothing of models."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from localllm.errors import DiskFullError, StoreError

CHUNK_BYTES = 1 << 20
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def private_dir(path: Path, deny: int = 0o077) -> Path:
    """Make `path` a directory only its owner can write (0700 when made here).

    `deny`: permission bits taken away from one that exists and is ours. A symbolic link there is refused, and so is
    another user's directory that everybody may write.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        hint = "a link inside the store is not followed"
        raise StoreError(f"{path} is not a directory of its own", hint=hint, path=str(path))
    if sys.platform != "win32":
        if found.st_uid == os.getuid():
            if found.st_mode & deny:
                path.chmod(stat.S_IMODE(found.st_mode) & ~deny)
        elif found.st_mode & 0o002:
            hint = "LOCALLLM_STORE names a directory of your own"
            raise StoreError(f"{path} belongs to another user and anybody may write it", hint=hint, path=str(path))
    return path


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read its bytes; a symbolic link or anything else in its place raises StoreError."""
    try:
        if sys.platform == "win32" and path.is_symlink():
            raise OSError(errno.ELOOP, "symbolic link")
        fd = os.open(path, _READ)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.EMLINK):
            raise StoreError(f"{path} is a symbolic link", hint="the store follows no links", path=str(path)) from exc
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise StoreError(f"{path} is no regular file", path=str(path))
    return os.fdopen(fd, "rb")


def create_private(path: Path) -> BinaryIO:
    """Open a new file for writing, 0600; anything already there is an error."""
    return os.fdopen(os.open(path, _CREATE, 0o600), "w+b")


def sync_dir(path: Path) -> None:
    """Make renames and removals in a directory durable (Windows does so by itself)."""
    if sys.platform == "win32":
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse it
            os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """Make a file's bytes durable."""
    fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(target: Path, data: bytes, work: Path) -> None:
    """Put `data` at `target` whole or not at all. `work`: where it lies meanwhile, on the same file system."""
    temp = work / f"t-{os.getpid()}-{os.urandom(8).hex()}"
    with disk_full(target, len(data)):
        try:
            with create_private(temp) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temp.replace(target)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
    sync_dir(target.parent)


def save_json(value: msgspec.Struct, path: Path) -> None:
    """Write what a person wants kept, as JSON: whole or not at all, for its owner's eyes only. Raises StoreError."""
    data = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    try:
        write_atomic(path, data, path.parent)
    except OSError as exc:
        raise StoreError(f"{path} cannot be written: {exc.strerror}", path=str(path)) from exc


def hash_file(file: BinaryIO, on_bytes: Callable[[int], None] | None = None) -> str:
    """The digest (`sha256:<hex>`) of everything from the file's position on; `on_bytes` gets the count read so far."""
    digest, done, buffer = hashlib.sha256(), 0, bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    while n := file.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(view[:n])
        done += n
        if on_bytes is not None:
            on_bytes(done)
    return f"sha256:{digest.hexdigest()}"


def free_bytes(path: Path) -> int:
    """Bytes this user may still write where `path` is, or will be."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def check_free(path: Path, needed_bytes: int) -> None:
    """Raise DiskFullError now rather than after an hour of writing."""
    free = free_bytes(path)
    if free < needed_bytes:
        raise _disk_full_error(path, needed_bytes, free)


@contextlib.contextmanager
def disk_full(path: Path, needed_bytes: int) -> Iterator[None]:
    """Turn the system's "no space" and "over quota" into DiskFullError."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            raise _disk_full_error(path, needed_bytes, free_bytes(path)) from exc
        raise


@contextlib.contextmanager
def os_errors(what: str, path: Path) -> Iterator[None]:
    """Turn what the system refuses into StoreError (DiskFullError for a full disk); `what` reads after "cannot"."""
    try:
        with disk_full(path, 0):
            yield
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        where = exc.filename or path
        raise StoreError(
            f"cannot {what}: {where}: {reason}", hint=f"check that you may write {path}", path=str(where)
        ) from exc


def _disk_full_error(path: Path, needed: int, free: int) -> DiskFullError:
    wanted = f"no room for {needed / 1e9:.2f} GB" if needed else "no room"
    return DiskFullError(
        f"{wanted} at {path}: {free / 1e9:.2f} GB free",
        hint="`localllm prune` and `localllm rm` give space back; LOCALLLM_STORE moves the store to another disk",
        needed_bytes=needed,
        free_bytes=free,
        path=str(path),
    )


def reflink(source: Path, target: Path) -> bool:
    """Make `target` a copy-on-write clone of `source`; False where the file system cannot."""
    if sys.platform == "linux":
        import fcntl

        ficlone = 0x40049409
        try:
            with open_regular(source) as src, create_private(target) as dst:
                fcntl.ioctl(dst.fileno(), ficlone, src.fileno())
        except OSError:
            target.unlink(missing_ok=True)
            return False
        return True
    if sys.platform == "darwin":
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.clonefile(os.fsencode(source), os.fsencode(target), 1) == 0)
    return False
