"""A file of conversations, read: which format it is, within bounds, and taken into the history whole or not at all."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from localllm_tui.exchange import chatgpt, messages, ollama, open_webui, own
from localllm_tui.exchange.errors import ExchangeError
from localllm_tui.history.history import History
from localllm_tui.history.values import Bundle

# Far above any export that was seen; below what would take this machine's memory.
MAX_BYTES = 512 * 2**20
MAX_CONVERSATIONS = 200_000
_MEMBER = "conversations.json"
_HINT = (
    "an export of localllm, ChatGPT (conversations.json or its zip), Open WebUI, Ollama's app (db.sqlite), or a JSON"
    " object with `messages`"
)


class Imported(NamedTuple):
    """What an import did: how many are new, how many were here, and why others could not be read (the first three)."""

    conversations: tuple[int, ...]
    num_known: int
    num_unread: int
    reasons: tuple[str, ...]

    def words(self) -> str:
        """For a person."""
        parts = [f"{len(self.conversations)} imported"]
        if self.num_known:
            parts.append(f"{self.num_known} were here already")
        if self.num_unread:
            parts.append(f"{self.num_unread} could not be read ({'; '.join(self.reasons)})")
        return ", ".join(parts)


def import_file(path: Path, history: History) -> Imported:
    """Take in the conversations of a file; those that are here already stay as they are. May take seconds.

    Raises ExchangeError and HistoryError; then nothing of the file was taken in.
    """
    unread: list[str] = []
    bundles = list(_bundles(path.expanduser(), unread))
    if not bundles and unread:
        raise ExchangeError(f"{path}: nothing could be read: {unread[0]}", hint=_HINT, path=str(path))
    taken = history.take_in(bundles)
    return Imported(taken.conversations, taken.num_known, len(unread), tuple(unread[:3]))


def _bundles(path: Path, unread: list[str]) -> Iterator[Bundle]:
    try:
        with path.open("rb") as file:
            head = file.read(64)
        if ollama.is_sqlite(head):
            _check_size(path.stat().st_size)
            yield from ollama.read(path)
            return
        data = _from_zip(path) if head.startswith(b"PK") else _whole(path)
        yield from own.read(data) if own.is_own(data) else _foreign(data, unread)
    except ExchangeError as exc:
        raise ExchangeError(f"{path}: {exc.message}", hint=exc.hint or _HINT, path=str(path)) from exc
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError) as exc:
        reason = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
        raise ExchangeError(f"{path} cannot be read: {reason}", path=str(path)) from exc


def _whole(path: Path) -> bytes:
    _check_size(path.stat().st_size)
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    _check_size(len(data))
    return data


def _from_zip(path: Path) -> bytes:
    """The member that holds the conversations. What it claims to be and what it is are both bounded."""
    with zipfile.ZipFile(path) as archive:
        found = [info for info in archive.infolist() if info.filename.rsplit("/", 1)[-1] == _MEMBER]
        if not found:
            raise ExchangeError(f"the archive holds no {_MEMBER}")
        _check_size(found[0].file_size)
        with archive.open(found[0]) as member:
            data = member.read(MAX_BYTES + 1)
    _check_size(len(data))
    return data


def _check_size(num_bytes: int) -> None:
    if num_bytes > MAX_BYTES:
        raise ExchangeError(f"it is larger than {MAX_BYTES // 2**20} MiB", hint="split it, and import the parts")


class _Marks(msgspec.Struct):
    """What tells the formats apart."""

    mapping: dict[str, msgspec.Raw] | None = None
    chat: dict[str, msgspec.Raw] | None = None
    messages: list[msgspec.Raw] | None = None


def _foreign(data: bytes, unread: list[str]) -> Iterator[Bundle]:
    try:
        is_list = data.lstrip()[:1] == b"["
        items = msgspec.json.decode(data, type=list[msgspec.Raw]) if is_list else [msgspec.Raw(data)]
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ExchangeError(f"it is no JSON that can be read: {exc}") from exc
    if len(items) > MAX_CONVERSATIONS:
        raise ExchangeError(f"it holds more than {MAX_CONVERSATIONS} conversations")
    marks = msgspec.json.Decoder(_Marks)
    for item in items:
        try:
            yield _reader(marks.decode(item))(item)
        except ExchangeError as exc:
            unread.append(exc.message)
        except (msgspec.DecodeError, RecursionError) as exc:
            unread.append(str(exc) or type(exc).__name__)


def _reader(marks: _Marks) -> Callable[[msgspec.Raw], Bundle]:
    if marks.mapping is not None:
        return chatgpt.read
    if marks.chat is not None:
        return open_webui.read
    if marks.messages is not None:
        return messages.read
    raise ExchangeError("it is of no format that is known here")
