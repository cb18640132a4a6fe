"""Locks between processes, held on files. Owns the one call that differs by system; knows nothing of models.

A lock belongs to an open file and ends with the process that holds it, also when that process is killed. Where the file
system has no locks (some network mounts) taking one always succeeds: the store must stay right then, if slower.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_POLL_S = 0.05
_NO_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL}
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

if sys.platform == "win32":
    import msvcrt

    # Windows locks are mandatory: a byte far behind the content leaves the content readable.
    _LOCK_BYTE = 2**30

    def lock_fd(fd: int) -> bool:
        """Take the exclusive lock of an open file without waiting; False: another holds it."""
        os.lseek(fd, _LOCK_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError as exc:
            if exc.errno in (errno.EACCES, errno.EDEADLOCK, errno.EAGAIN):
                return False
            if exc.errno in _NO_LOCKS:
                return True
            raise
        return True

    def pid_alive(pid: int) -> bool:
        """True while a process of this id runs."""
        import ctypes

        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(0x1000, False, pid)
        if not handle:
            return False
        code = ctypes.c_ulong()
        kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return code.value == 259

else:
    import fcntl

    def lock_fd(fd: int) -> bool:
        """Take the exclusive lock of an open file without waiting; False: another holds it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as exc:
            if exc.errno in _NO_LOCKS:
                return True
            raise
        return True

    def pid_alive(pid: int) -> bool:
        """True while a process of this id runs."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except (PermissionError, OverflowError):
            return True
        return True


class HeldLock:
    """A lock that this process holds until `release`."""

    def __init__(self, fd: int, path: Path) -> None:
        self.fd = fd
        self.path = path

    def release(self, *, unlink: bool = False) -> None:
        """Let go; `unlink` removes the lock file too (safe: whoever opened it meanwhile looks again)."""
        if unlink and sys.platform != "win32":
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(self.fd)
        if unlink and sys.platform == "win32":
            with contextlib.suppress(OSError):
                self.path.unlink()


def try_lock(path: Path) -> HeldLock | None:
    """Take the lock of the file at `path` (made where missing, 0600); None: another process or thread holds it."""
    while True:
        fd = os.open(path, _OPEN, 0o600)
        try:
            if not lock_fd(fd):
                os.close(fd)
                return None
            if _is_file_at(fd, path):
                return HeldLock(fd, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(fd)
            raise
        os.close(fd)  # the holder removed the file while we opened it: our lock is on nothing


def _is_file_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock of `path` for the block, waiting for it.

    `on_wait` is called at each look while another holds it (about 20 times a second); it may raise to give up.
    """
    while (held := try_lock(path)) is None:
        if on_wait is not None:
            on_wait()
        time.sleep(_POLL_S)
    try:
        yield
    finally:
        held.release()


def locks_work(directory: Path) -> bool:
    """True when this directory's file system really keeps a second holder out."""
    probe = directory / f".probe-{os.getpid()}-{os.urandom(6).hex()}"
    first = try_lock(probe)
    if first is None:
        return True
    try:
        second = os.open(probe, _OPEN, 0o600)
        try:
            return not lock_fd(second)
        finally:
            os.close(second)
    finally:
        first.release(unlink=True)
