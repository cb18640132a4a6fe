"""Names that models may call tools by: `server__tool`, legal in every dialect and no two alike. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

MAX_NAME_CHARS = 64

_ILLEGAL = re.compile(r"[^A-Za-z0-9_-]+")


def call_names(tools: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """A name for each pair of a server's name and a tool's own.

    A name that had to be altered ends in a piece of a digest of the pair, so it does not depend on what else there is.
    """
    taken: set[str] = set()
    names = []
    for server, tool in tools:
        name = _plain(server, tool)
        if name is None or name in taken:
            name = _marked(server, tool)
        taken.add(name)
        names.append(name)
    return tuple(names)


def _plain(server: str, tool: str) -> str | None:
    name = f"{server}__{tool}"
    return name if server and tool and len(name) <= MAX_NAME_CHARS and not _ILLEGAL.search(name) else None


def _marked(server: str, tool: str) -> str:
    digest = hashlib.sha256(f"{server}\0{tool}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
    name = _ILLEGAL.sub("_", f"{server}__{tool}")[: MAX_NAME_CHARS - len(digest) - 1]
    return f"{name}_{digest}"
