"""A file becomes text: only a regular one, only so large, only if it is text; everything else is refused in words."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import NamedTuple

from localllm import terminal_text
from localllm.errors import UsageError
from localllm.terminal_text import safe_line

MAX_FILE_BYTES = 1_000_000
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
}


class FileText(NamedTuple):
    """A file's text. `note` says what a person should know of it, such as a guessed encoding."""

    path: Path
    text: str
    num_bytes: int
    note: str = ""


class NotTextError(UsageError):
    """A file that is no text: a glob leaves it out, a mention of it alone is refused."""


def read_text(path: Path, max_bytes: int = MAX_FILE_BYTES) -> FileText:
    """Read a file of text. Raises UsageError (NotTextError for what is no text) and opens nothing but regular files."""
    shown = safe_line(path.name or str(path))
    try:
        data = _read(path, shown, max_bytes)
    except FileNotFoundError as exc:
        raise UsageError(f"{shown} is not there any more") from exc
    except OSError as exc:
        raise UsageError(f"{shown} cannot be read: {exc.strerror or exc}") from exc
    _refuse_known(data, shown)
    text, note = decode(data, shown)
    return FileText(path, text, len(data), note)


def decode(data: bytes, shown: str) -> tuple[str, str]:
    """Text of bytes and a note on how they were read: by their mark, as UTF-8, else as Latin-1. Raises NotTextError."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            try:
                return _lines(data.decode(encoding)), "" if encoding == "utf-8-sig" else encoding.upper()
            except UnicodeDecodeError as exc:
                raise NotTextError(f"{shown} says it is {encoding.upper()}, and is not") from exc
    if b"\x00" in data:
        raise NotTextError(f"{shown} is a binary file", hint="only text can be attached")
    try:
        return _lines(data.decode("utf-8")), ""
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    # Text in an old encoding has few characters that Latin-1 calls controls; compressed or encrypted bytes have many.
    num_controls = sum(not (char.isprintable() or char.isspace() or char == "\xad") for char in text)
    if num_controls * 20 > len(text):
        raise NotTextError(f"{shown} is a binary file", hint="only text can be attached")
    return _lines(text), "no UTF-8, read as Latin-1"


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read(path: Path, shown: str, max_bytes: int) -> bytes:
    _check(os.stat(path), shown, max_bytes)
    # What was a file a moment ago may be a pipe now, and opening one of those would wait for its other end.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    with open(os.open(path, flags), "rb") as file:
        _check(os.fstat(file.fileno()), shown, max_bytes)
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise _too_large(shown, len(data), max_bytes)
    return data


def _check(status: os.stat_result, shown: str, max_bytes: int) -> None:
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        raise UsageError(f"{shown} is a folder", hint=f"{shown}/** takes the files in it")
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"))
        kind = next((words for test, words in kinds if test(mode)), "no regular file")
        raise UsageError(f"{shown} is {kind}", hint="only files can be attached; `localllm chat` reads a pipe on stdin")
    if status.st_size > max_bytes:
        raise _too_large(shown, status.st_size, max_bytes)


def _too_large(shown: str, num_bytes: int, max_bytes: int) -> UsageError:
    limit = terminal_text.size(max_bytes)
    return UsageError(f"{shown} has {terminal_text.size(num_bytes)}", hint=f"files of up to {limit} can be attached")


def _refuse_known(data: bytes, shown: str) -> None:
    kind = next((kind for magic, kind in _IMAGES.items() if data.startswith(magic)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "WebP"
    if kind and (kind != "BMP" or b"\x00" in data):
        raise NotTextError(f"{shown} is an image ({kind})", hint="images cannot be read yet; describe it in words")
    if data.startswith(b"%PDF-"):
        raise NotTextError(f"{shown} is a PDF", hint="its text has to be taken out first, with pdftotext for example")
    if data.startswith(b"PK\x03\x04"):
        raise NotTextError(f"{shown} is an archive or an office document", hint="attach the text that is in it")
