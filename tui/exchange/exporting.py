"""Conversations into a file: Markdown or HTML for reading, JSON for keeping. The ending of the name says which."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from localllm_tui.exchange import own
from localllm_tui.exchange.errors import ExchangeError
from localllm_tui.history.history import History

ENDINGS = {"md": "Markdown", "html": "HTML", "json": "JSON"}
_PAGE = 500


def export_file(history: History, conversations: Iterable[int], path: Path) -> Path:
    """Write conversations to a new file and give its place. JSON holds whole trees; the others one open branch.

    Raises ExchangeError and HistoryError; then there is no file.
    """
    path = path.expanduser()
    ids = list(conversations)
    ending = path.suffix.removeprefix(".").lower()
    if ending not in ENDINGS:
        hint = "end its name in .md, .html or .json"
        raise ExchangeError(f"{path.name} says no format", hint=hint, path=str(path))
    if ending != "json" and len(ids) != 1:
        raise ExchangeError(f"{ENDINGS[ending]} holds one conversation", hint="JSON holds all", path=str(path))
    pieces = own.write(map(history.bundle, ids)) if ending == "json" else _page(history, ids[0], ending)
    _write(path, pieces)
    return path


def all_ids(history: History) -> Iterator[int]:
    """Every conversation, as lists show them."""
    offset = 0
    while page := history.conversations(limit=_PAGE, offset=offset):
        yield from (one.id for one in page)
        offset += len(page)


def free_name(title: str, ending: str, folder: Path) -> str:
    """A name from a title that no file in `folder` has."""
    kept = "".join(char if char.isalnum() else "-" for char in title.lower())[:60]
    stem = "-".join(part for part in kept.split("-") if part) or "conversation"
    names = [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
    return next(
        (f"{name}.{ending}" for name in names if not (folder / f"{name}.{ending}").exists()), f"{stem}.{ending}"
    )


def _page(history: History, id_: int, ending: str) -> Iterator[bytes]:
    conversation = history.conversation(id_)
    path = history.path(conversation.leaf) if conversation.leaf else ()
    if ending == "html":
        from localllm_tui.exchange.html import to_html

        yield to_html(conversation, path).encode("utf-8", "replace")
    else:
        from localllm_tui.exchange.markdown import to_markdown

        yield to_markdown(conversation, path).encode("utf-8", "replace")


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    """A new file, whole or not there; one that is there is never overwritten."""
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        if path.exists():
            raise ExchangeError(f"{path} exists", hint="give another name; nothing is overwritten", path=str(path))
        try:
            with part.open("xb") as file:
                for piece in pieces:
                    file.write(piece)
            part.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else None
        raise ExchangeError(
            f"{path} cannot be written: {reason or exc}", hint="choose another place", path=str(path)
        ) from exc
