"""PrefixFiles: prefixes on disk, a file each. Owns the container, its folder and the byte budget; knows no llama.cpp.

A file appears whole or not at all: it is written under another name, synced, and renamed. It carries a checksum, so
that what is damaged or foreign is removed and never used. Processes share the folder without talking to each other, so
what one reads may be gone at any moment, and the least recently used file of all makes room.

    root/KEY/NAME.kv    KEY: what decides the states (model, cache types, build); NAME: the digest of scope and tokens
    magic, header's length, SHA-256 of header and tokens, header (msgpack), tokens (int32), state, SHA-256 of the state
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import logging
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from localllm.engine.batch import Stored
from localllm.errors import StoreError
from localllm.store.files import create_private, free_bytes, open_regular, private_dir, sync_dir
from localllm.store.locks import lock_fd

logger = logging.getLogger(__name__)

MAGIC = b"LLMKV\x00\x00\x01"
_START = struct.Struct("<8sI32s")
SUFFIX = ".kv"
TEMP = "t-"
CHUNK_BYTES = 4 << 20
MAX_HEADER_BYTES = 1 << 16

# Left free on the disk for everybody else.
SPARE_BYTES = 256 << 20

# A file that is written changes more often than this.
ABANDONED_S = 60.0

# More tokens than this are not listed at start: they would take their memory in every process.
MAX_INDEXED = 2_000_000


class _Header(msgspec.Struct, frozen=True):
    key: str
    scope: str
    num_tokens: int
    state_bytes: int


@dataclass(frozen=True, slots=True)
class _Found:
    """A file of the folder."""

    path: Path
    num_bytes: int
    used_ns: int


class PrefixFiles:
    """The files of one key under `root`; all keys together take at most `max_bytes`."""

    def __init__(self, root: Path, key: str, max_bytes: int) -> None:
        self._root = root
        self._key = key
        self._max_bytes = max_bytes
        self._folder = root / key
        self._known: dict[Path, Stored] = {}
        self._complained = False

    def scan(self) -> list[Stored]:
        """The prefixes that are there, last used last; clears away what is damaged. Reads headers and tokens only."""
        found: list[Stored] = []
        num_tokens = 0
        for file in sorted(_files(self._root), key=lambda file: file.used_ns, reverse=True):
            if file.path.parent != self._folder or num_tokens >= MAX_INDEXED:
                continue
            stored = self._look(file)
            if stored is None:
                _remove(file.path)
                continue
            num_tokens += len(stored.tokens)
            self._known[file.path] = stored
            found.append(stored)
        return found[::-1]

    def read(self, stored: Stored, allocate: Callable[[int], Any]) -> Any | None:
        """A prefix's state in a buffer from `allocate`; None: it is gone, or damaged and now gone."""
        path = self._path(stored)
        try:
            with open_regular(path) as file:
                header, tokens = _read_head(file, os.fstat(file.fileno()).st_size)
                if header.key != self._key or (header.scope, tokens) != (stored.scope, stored.tokens):
                    raise ValueError("another prefix")
                buffer = allocate(header.state_bytes)
                digest, view = hashlib.sha256(), memoryview(buffer).cast("B")
                for at in range(0, len(view), CHUNK_BYTES):
                    part = view[at : at + CHUNK_BYTES]
                    if file.readinto(part) != len(part):  # type: ignore[attr-defined]
                        raise ValueError("too short")
                    digest.update(part)
                if file.read() != digest.digest():
                    raise ValueError("checksum")
            os.utime(path)
        except (OSError, StoreError, ValueError) as exc:
            if not isinstance(exc, FileNotFoundError):
                logger.warning("a cached prefix is not used: %s", exc)
            self._known.pop(path, None)
            _remove(path)
            return None
        return buffer

    def write(self, stored: Stored, state: Any, pace: Callable[[], None]) -> tuple[bool, list[Stored]]:
        """Write a prefix; True when it is there for good, and the prefixes that made room. `pace` is called often."""
        view = memoryview(state).cast("B")
        head = _make_head(self._key, stored, len(view))
        lost: list[Stored] = []
        try:
            lost = self._make_room(len(head) + len(view) + 32)
            self._write(self._path(stored), head, view, pace)
        except (OSError, StoreError) as exc:
            if not self._complained:
                self._complained = True
                logger.warning("prefixes cannot be kept on disk: %s", exc)
            return False, lost
        self._known[self._path(stored)] = stored
        return True, lost

    def remove(self, stored: Stored) -> None:
        """Remove a prefix; one that is gone is fine."""
        self._known.pop(self._path(stored), None)
        _remove(self._path(stored))

    def _path(self, stored: Stored) -> Path:
        digest = hashlib.sha256(f"{stored.scope}\n".encode() + _pack(stored.tokens))
        return self._folder / (digest.hexdigest()[:40] + SUFFIX)

    def _look(self, file: _Found) -> Stored | None:
        try:
            with open_regular(file.path) as opened:
                header, tokens = _read_head(opened, file.num_bytes)
        except (OSError, StoreError, ValueError):
            return None
        stored = Stored(tokens, header.scope)
        return stored if header.key == self._key and self._path(stored) == file.path else None

    def _make_room(self, num_bytes: int) -> list[Stored]:
        """Remove the least recently used files until `num_bytes` more are within the budget and on the disk."""
        private_dir(private_dir(self._root) / self._key)
        files = sorted(_files(self._root), key=lambda file: file.used_ns)
        over = sum(file.num_bytes for file in files) + num_bytes - self._max_bytes
        if num_bytes > self._max_bytes:
            raise StoreError(f"a prefix of {num_bytes} bytes, at most {self._max_bytes}")
        lost: list[Stored] = []
        for file in files:
            if over <= 0:
                break
            _remove(file.path)
            over -= file.num_bytes
            if (stored := self._known.pop(file.path, None)) is not None:
                lost.append(stored)
        if free_bytes(self._root) < num_bytes + SPARE_BYTES:
            raise StoreError("the disk is nearly full")
        return lost

    def _write(self, path: Path, head: bytes, view: memoryview, pace: Callable[[], None]) -> None:
        temp = path.with_name(f"{TEMP}{os.getpid()}-{os.urandom(8).hex()}")
        try:
            with create_private(temp) as file:
                lock_fd(file.fileno())  # whoever finds it unlocked later knows that its writer is gone
                file.seek(0)
                file.write(head)
                digest = hashlib.sha256()
                for at in range(0, len(view), CHUNK_BYTES):
                    part = view[at : at + CHUNK_BYTES]
                    digest.update(part)
                    file.write(part)
                    pace()
                file.write(digest.digest())
                file.flush()
                os.fsync(file.fileno())
                if sys.platform != "win32":
                    temp.replace(path)  # still locked
            if sys.platform == "win32":
                temp.replace(path)
        except BaseException:
            _remove(temp)
            raise
        sync_dir(path.parent)


def clear(root: Path, *, dry_run: bool = False) -> tuple[int, int]:
    """Remove all prefixes of all models; returns their number and bytes. Engines that run do without."""
    files = list(_files(root))
    if not dry_run:
        for file in files:
            _remove(file.path)
        for folder in _folders(root):
            with contextlib.suppress(OSError):
                folder.rmdir()
    return len(files), sum(file.num_bytes for file in files)


def _folders(root: Path) -> list[Path]:
    try:
        return [entry for entry in root.iterdir() if entry.is_dir() and not entry.is_symlink()]
    except OSError:
        return []


def _files(root: Path) -> Iterator[_Found]:
    """The files of all keys, without those that are being written; what a killed writer left is removed."""
    for folder in _folders(root):
        try:
            paths = list(folder.iterdir())
        except OSError:
            continue
        for path in paths:
            if path.name.startswith(TEMP):
                _remove_abandoned(path)
            elif path.suffix == SUFFIX:
                with contextlib.suppress(OSError):
                    stat = path.lstat()
                    yield _Found(path, stat.st_size, stat.st_mtime_ns)


def _remove_abandoned(path: Path) -> None:
    """Remove what a killed writer left; one that writes holds its lock, or is about to take it."""
    with contextlib.suppress(OSError, StoreError), open_regular(path) as file:
        if time.time() - os.fstat(file.fileno()).st_mtime < ABANDONED_S or not lock_fd(file.fileno()):
            return
        _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _pack(tokens: list[int]) -> bytes:
    packed = array.array("i", tokens)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _unpack(data: bytes) -> list[int]:
    packed = array.array("i")
    packed.frombytes(data)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()


def _make_head(key: str, stored: Stored, state_bytes: int) -> bytes:
    header = msgspec.msgpack.encode(_Header(key, stored.scope, len(stored.tokens), state_bytes))
    rest = header + _pack(stored.tokens)
    return _START.pack(MAGIC, len(header), hashlib.sha256(rest).digest()) + rest


def _read_head(file: BinaryIO, num_bytes: int) -> tuple[_Header, list[int]]:
    """The header and the tokens of a file of `num_bytes`. Raises ValueError where anything is not as it was written."""
    start = file.read(_START.size)
    if len(start) < _START.size:
        raise ValueError("too short")
    magic, header_bytes, digest = _START.unpack(start)
    if magic != MAGIC or header_bytes > MAX_HEADER_BYTES:
        raise ValueError("another format")
    packed = file.read(header_bytes)
    header = msgspec.msgpack.decode(packed, type=_Header)
    total = _START.size + header_bytes + 4 * header.num_tokens + header.state_bytes + 32
    if header.num_tokens < 0 or total != num_bytes:
        raise ValueError("another length")
    tokens = file.read(4 * header.num_tokens)
    if hashlib.sha256(packed + tokens).digest() != digest:
        raise ValueError("checksum")
    return header, _unpack(tokens)
