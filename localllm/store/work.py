"""Unfinished work on disk: staging directories and resumable partial files. Nothing here is ever part of a model.

Every process works under a private name. A partial download rests as `work/p-<key>`; whoever holds its lock renames it
to a name of its own first and back afterwards, so that two processes never write one file, even where locks do nothing.
What a killed process left is found by its lock (or, where locks do nothing, by its process id).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from localllm.errors import DigestMismatchError, DiskFullError
from localllm.store.files import disk_full, os_errors, private_dir
from localllm.store.locks import HeldLock, locked, locks_work, pid_alive, try_lock

_PARTIAL = re.compile(r"(p-[0-9a-f]{32})(?:\.(\d+)\.[0-9a-f]+)?\Z")
_OWNED = re.compile(r"[st]-(\d+)-[0-9a-f]+\Z")


class Partial:
    """A resumable file of one download. Other files the downloader puts into `directory` rest and resume with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "data"

    def __fspath__(self) -> str:
        return str(self.path)

    def discard(self) -> None:
        """Delete what is there; the block may go on and write anew."""
        for entry in self.directory.iterdir():
            entry.unlink()


class Workspace:
    """`work/` and `locks/` under one store root."""

    def __init__(self, root: Path) -> None:
        self.work_dir = root / "work"
        self.locks_dir = root / "locks"
        self._locks_work: bool | None = None

    def locks_work(self) -> bool:
        """Whether this file system keeps a second lock holder out (looked at once)."""
        if self._locks_work is None:
            self._locks_work = locks_work(private_dir(self.locks_dir))
        return self._locks_work

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A private directory for the block, on the store's file system; removed at its end."""
        name = f"s-{os.getpid()}-{os.urandom(8).hex()}"
        path = self.work_dir / name
        with os_errors("write the model store", self.work_dir):
            held = try_lock(private_dir(self.locks_dir) / f"{name}.lock")
        assert held is not None, "a random name was taken"
        try:
            with os_errors("write the model store", self.work_dir):
                path.mkdir(mode=0o700)
            with disk_full(path, 0):
                yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            held.release(unlink=True)

    @contextlib.contextmanager
    def partial(self, key: str, on_wait: Callable[[], None] | None = None) -> Iterator[Partial]:
        """The partial file of `key`, exclusively; waits for another process that has it.

        What is there at the end rests for the next caller, unless the disk was full or the bytes were wrong.
        """
        rest = self.work_dir / f"p-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
        with contextlib.ExitStack() as stack:
            with os_errors("write the model store", self.work_dir):
                stack.enter_context(locked(private_dir(self.locks_dir) / f"{rest.name}.lock", on_wait=on_wait))
                mine = self._claim(rest)
            keep = True
            try:
                with disk_full(mine, 0):
                    yield Partial(mine)
            except (DiskFullError, DigestMismatchError):
                keep = False
                raise
            finally:
                self._put_back(mine, rest, keep=keep)

    def partial_is_busy(self) -> bool:
        """True while some process downloads into this store."""
        for name in self._names():
            match = _PARTIAL.match(name)
            if match and match[2] and not self._is_dead(match[1], int(match[2])):
                return True
        return False

    def sweep(self, *, partials: bool = False, min_age_s: float = 0.0, dry_run: bool = False) -> tuple[int, int]:
        """Remove what dead processes left, and resting partials when asked. Returns how many, and their bytes."""
        count = freed = 0
        for name in self._names():
            path = self.work_dir / name
            held = self._abandoned(name, path, partials=partials, min_age_s=min_age_s)
            if held is None:
                continue
            count, freed = count + 1, freed + _tree_bytes(path)
            if not dry_run:
                _remove_tree(path)
            if isinstance(held, HeldLock):
                held.release(unlink=not dry_run)
        if partials and not dry_run:
            self._sweep_locks()
        return count, freed

    def _sweep_locks(self) -> None:
        """Remove lock files of work that is no more; one somebody holds stays."""
        names = set(self._names())
        for lock in self.locks_dir.iterdir():
            if lock.name.startswith(("p-", "s-")) and lock.stem not in names:
                held = try_lock(lock)
                if held is not None:
                    held.release(unlink=True)

    def _abandoned(self, name: str, path: Path, *, partials: bool, min_age_s: float) -> HeldLock | bool | None:
        """None: leave it. Otherwise it may go, under the lock returned (True: it has none)."""
        partial, owned = _PARTIAL.match(name), _OWNED.match(name)
        try:
            age_s = time.time() - path.lstat().st_mtime
        except FileNotFoundError:
            return None
        if owned and name.startswith("t-"):
            return True if not pid_alive(int(owned[1])) or age_s > 86400 else None
        if owned:
            dead = self.locks_work() or not pid_alive(int(owned[1]))
            return try_lock(self.locks_dir / f"{name}.lock") if dead else None
        if partial and partials and age_s >= min_age_s:
            dead = self.locks_work() or partial[2] is None or not pid_alive(int(partial[2]))
            return try_lock(self.locks_dir / f"{partial[1]}.lock") if dead else None
        return None

    def _claim(self, rest: Path) -> Path:
        """Rename the largest partial at rest, or left by a dead holder, to a private name; else make an empty one."""
        mine = rest.with_name(f"{rest.name}.{os.getpid()}.{os.urandom(6).hex()}")
        left = [rest] if rest.is_dir() else []
        for name in self._names():
            match = _PARTIAL.match(name)
            if match and match[1] == rest.name and match[2] and (self.locks_work() or not pid_alive(int(match[2]))):
                left.append(self.work_dir / name)
        left.sort(key=_tree_bytes, reverse=True)
        for path in left:
            if not mine.exists():
                with contextlib.suppress(OSError):
                    path.rename(mine)
            else:
                _remove_tree(path)
        if not mine.exists():
            mine.mkdir(mode=0o700)
        return mine

    def _put_back(self, mine: Path, rest: Path, *, keep: bool) -> None:
        if keep and (mine / "data").is_file():
            with contextlib.suppress(OSError):
                mine.rename(rest)
                return
        _remove_tree(mine)

    def _is_dead(self, key: str, pid: int) -> bool:
        if not self.locks_work():
            return not pid_alive(pid)
        held = try_lock(self.locks_dir / f"{key}.lock")
        if held is not None:
            held.release()
        return held is not None

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.work_dir))
        except FileNotFoundError:
            return []


def _tree_bytes(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(entry.lstat().st_size for entry in path.rglob("*") if not entry.is_dir())


def _remove_tree(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        with contextlib.suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
