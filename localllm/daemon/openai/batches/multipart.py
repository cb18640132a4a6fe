"""Multipart bodies cut into their parts as they arrive (RFC 7578). Heads are bounded, parts may be of any size."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from localllm.errors import InvalidRequestError

_MAX_HEAD_BYTES = 8 * 1024
_MAX_PARTS = 32
_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_PARAM = re.compile(r';\s*(name|filename)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_PARAM_UTF8 = re.compile(r";\s*filename\*=utf-8''([^\s;]+)", re.IGNORECASE)


class Begin(NamedTuple):
    """A part begins."""

    name: str
    filename: str | None


class Data(NamedTuple):
    """More of the part that began last."""

    data: bytes


class Multipart:
    """The parser of one body. `is_whole`: its last boundary was seen."""

    def __init__(self, content_type: str) -> None:
        found = _BOUNDARY.search(content_type)
        if found is None or not content_type.lower().startswith("multipart/form-data"):
            raise InvalidRequestError("this is no multipart/form-data", hint="send the file as a form")
        self._mark = b"\r\n--" + (found[1] or found[2]).encode("latin-1", "replace")
        # The first boundary has no line before it.
        self._buffer = bytearray(b"\r\n")
        self._state = "preamble"
        self._num_parts = 0

    @property
    def is_whole(self) -> bool:
        """Whether the body came to its end."""
        return self._state == "end"

    def feed(self, data: bytes) -> list[Begin | Data]:
        """What further bytes bring. Raises InvalidRequestError."""
        self._buffer += data
        found: list[Begin | Data] = []
        while self._step(found):
            pass
        return found

    def _step(self, found: list[Begin | Data]) -> bool:
        """One move forward; False: more bytes are needed."""
        buffer = self._buffer
        if self._state in ("preamble", "body"):
            at = buffer.find(self._mark)
            num_sure = max(len(buffer) - len(self._mark) + 1, 0) if at < 0 else at
            if self._state == "body" and num_sure:
                found.append(Data(bytes(buffer[:num_sure])))
            del buffer[: num_sure if at < 0 else at + len(self._mark)]
            if at >= 0:
                self._state = "boundary"
            return at >= 0
        if self._state == "boundary":
            if buffer[:2] == b"--":
                self._state = "end"
                return True
            end = buffer.find(b"\r\n")
            if (end < 0 and len(buffer) > 256) or (end >= 0 and bytes(buffer[:end]).strip(b" \t")):
                raise InvalidRequestError("a broken boundary in the form")
            if end >= 0 and len(buffer) >= 2:
                del buffer[: end + 2]
                self._state = "head"
            return end >= 0
        if self._state == "head":
            end = buffer.find(b"\r\n\r\n")
            if end > _MAX_HEAD_BYTES or (end < 0 and len(buffer) > _MAX_HEAD_BYTES):
                raise InvalidRequestError("a part of the form has too long a head")
            if end >= 0:
                found.append(self._begin(bytes(buffer[:end])))
                del buffer[: end + 4]
                self._state = "body"
            return end >= 0
        buffer.clear()
        return False

    def _begin(self, head: bytes) -> Begin:
        self._num_parts += 1
        if self._num_parts > _MAX_PARTS:
            raise InvalidRequestError(f"a form of more than {_MAX_PARTS} parts")
        for line in head.decode("utf-8", "replace").split("\r\n"):
            field, _, value = line.partition(":")
            if field.strip().lower() == "content-disposition":
                known = {name.lower(): re.sub(r"\\(.)", r"\1", text) for name, text in _PARAM.findall(value)}
                wide = _PARAM_UTF8.search(value)
                filename = unquote(wide[1]) if wide else known.get("filename")
                return Begin(known.get("name", ""), filename)
        raise InvalidRequestError("a part of the form has no name")
