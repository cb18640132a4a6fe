"""Bounded reading of bytes at offsets: where GGUF bytes come from, and a cursor that never believes a length.

A length or count is compared with what is left of the file before anything is allocated. Knows no GGUF fields.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from localllm.errors import GGUFError, StoreError
from localllm.store.files import open_regular

WINDOW_BYTES = 1 << 20
MAX_STRING_BYTES = 16 << 20
MAX_KEPT_BYTES = 32 << 20
_U64 = struct.Struct("<Q")


class ByteSource(Protocol):
    """Bytes that can be read anywhere: a file, or a remote file by ranges. `name` is for messages."""

    name: str
    size: int

    def read_at(self, offset: int, n: int) -> bytes:
        """Exactly `n` bytes from `offset`; fewer only where the source ends before its `size`."""
        ...


class FileSource:
    """A file on disk as a ByteSource; a context manager. Follows symbolic links (a hub's cache is made of them)."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        try:
            self._file = open_regular(path.resolve())
        except (OSError, StoreError) as exc:
            reason = (exc.strerror or str(exc)).lower() if isinstance(exc, OSError) else "it is no regular file"
            hint = "check the path and its rights"
            raise GGUFError(f"cannot read {path}: {reason}", hint=hint, path=str(path)) from exc
        self.size = os.fstat(self._file.fileno()).st_size

    def read_at(self, offset: int, n: int) -> bytes:
        """Bytes from `offset`."""
        self._file.seek(offset)
        return self._file.read(n)

    def __enter__(self) -> FileSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class Cursor:
    """Walks a ByteSource from its start, a window at a time. Every failure is a GGUFError with the offset."""

    def __init__(self, source: ByteSource, window_bytes: int = WINDOW_BYTES) -> None:
        self.source = source
        self.pos = 0
        self.kept_bytes = 0
        self._window_bytes = window_bytes
        self._start = 0
        self._buffer = b""

    @property
    def remaining(self) -> int:
        """Bytes from here to the end of the file."""
        return self.source.size - self.pos

    def fail(self, message: str, *, at: int | None = None) -> GGUFError:
        """A GGUFError that names the file and where in it."""
        offset = self.pos if at is None else at
        return GGUFError(
            f"{self.source.name} is no sound GGUF: {message} (at byte {offset})",
            hint="the file is damaged, unfinished or made to harm; get it again from a source you trust",
            path=self.source.name,
            offset=offset,
        )

    def take(self, n: int, what: str) -> bytes:
        """The next `n` bytes."""
        self._need(n, what)
        at = self.pos - self._start
        self.pos += n
        return self._buffer[at : at + n]

    def number(self, code: str, what: str) -> Any:
        """The next number, of struct letter `code`."""
        size = struct.calcsize(f"<{code}")
        return struct.unpack(f"<{code}", self.take(size, what))[0]

    def string(self, what: str, limit: int = MAX_STRING_BYTES) -> bytes:
        """The next length-prefixed string."""
        at, length = self.pos, self.number("Q", f"the length of {what}")
        if length > min(limit, self.remaining):
            raise self.fail(f"{what} claims {length} bytes, {min(limit, self.remaining)} are possible", at=at)
        return self.take(length, what)

    def keep(self, n: int) -> None:
        """Account for `n` bytes the caller is about to keep."""
        self.kept_bytes += n
        if self.kept_bytes > MAX_KEPT_BYTES:
            raise self.fail(f"its metadata is over {MAX_KEPT_BYTES >> 20} MiB")

    def skip(self, n: int, what: str) -> None:
        """Pass over `n` bytes."""
        if n > self.remaining:
            raise self.fail(f"{what} claims {n} bytes, {self.remaining} are left")
        self.pos += n

    def skip_strings(self, count: int, what: str) -> None:
        """Pass over `count` strings without keeping any."""
        unpack = _U64.unpack_from
        pos, start, last, size = self.pos, self._start, self._start + len(self._buffer) - 8, self.source.size
        for _ in range(count):
            if pos > last:
                if pos > size:
                    raise self.fail(f"{what} runs past the end of the file", at=self.pos)
                self.pos = pos
                self._need(8, what)
                start, last = self._start, self._start + len(self._buffer) - 8
            pos += 8 + unpack(self._buffer, pos - start)[0]
        if pos > size:
            raise self.fail(f"{what} runs past the end of the file", at=self.pos)
        self.pos = pos

    def _need(self, n: int, what: str) -> None:
        if n > self.remaining:
            raise self.fail(f"the file ends inside {what}")
        if self._start <= self.pos and self.pos + n <= self._start + len(self._buffer):
            return
        length = min(max(n, self._window_bytes), self.remaining)
        self._start, self._buffer = self.pos, self.source.read_at(self.pos, length)
        if len(self._buffer) < n:
            raise self.fail(f"the file ends inside {what}")
