"""The one error of this package, and the translation of what SQLite says into words."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from localllm.errors import LocalLLMError

_FULL_HINT = "free some room; nothing that was kept before is lost, and the next change tries again"
_DAMAGED_HINT = "it can be set aside and what is readable carried over; the damaged file is kept"


class HistoryError(LocalLLMError):
    """Conversations cannot be read or kept. Facts: `path`, `kind`.

    `kind`: "full", "locked", "read-only", "damaged", "newer", "foreign", "missing", "refused" or "unusable".
    """


def is_damaged(exc: HistoryError) -> bool:
    """Whether `salvage.set_aside` is the way on."""
    return exc.facts.get("kind") == "damaged"


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raises HistoryError for whatever SQLite or the system raises inside."""
    try:
        yield
    except sqlite3.Error as exc:
        raise _in_words(exc, path) from exc
    except OverflowError as exc:
        raise HistoryError("there is nothing of that number", kind="missing") from exc
    except OSError as exc:
        message = f"{path} cannot be used: {exc.strerror or exc}"
        raise HistoryError(message, hint=_hint_of_rights(path), path=str(path), kind="unusable") from exc


def _in_words(exc: sqlite3.Error, path: Path) -> HistoryError:
    code = (getattr(exc, "sqlite_errorcode", None) or 0) & 0xFF
    facts = {"path": str(path)}
    match code:
        case sqlite3.SQLITE_FULL:
            return HistoryError(f"no room left on the disk of {path}", hint=_FULL_HINT, kind="full", **facts)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            hint = "another program is writing to it; try again, or close that program"
            return HistoryError(f"{path} is locked", hint=hint, kind="locked", **facts)
        case sqlite3.SQLITE_READONLY:
            return HistoryError(f"{path} cannot be written", hint=_hint_of_rights(path), kind="read-only", **facts)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return HistoryError(f"{path} is damaged: {exc}", hint=_DAMAGED_HINT, kind="damaged", **facts)
    return HistoryError(f"{path} cannot be used: {exc}", hint=_hint_of_rights(path), kind="unusable", **facts)


def _hint_of_rights(path: Path) -> str:
    return f"make {path.parent} writable for you, or choose another place with LOCALLLM_HOME"
