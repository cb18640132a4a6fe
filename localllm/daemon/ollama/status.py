"""The lines of long work that is no answer: pull and create. Pure.

Progress of a download is Progress; what else is said is a Notice of the kind "status".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from localllm.api import Event, Finished, Notice, Progress
from localllm.daemon.errors import Problem
from localllm.daemon.ndjson import NdjsonStream, line
from localllm.daemon.ollama.values import error_body

SUCCESS = {"status": "success"}


def status(text: str) -> Notice:
    """A line that says `text`."""
    return Notice("status", text)


class StatusStream(NdjsonStream):
    """Lines that say what is being done; of what is unchanged, one."""

    def __init__(self) -> None:
        self._last: dict[str, Any] = {}

    def encode(self, events: Sequence[Event]) -> bytes:
        """The events as lines; of neighbouring ones about one file, the last."""
        values = [value for event in events if (value := _value(event)) is not None]
        out = []
        for value, after in zip(values, [*values[1:], None], strict=True):
            is_passed = after is not None and after["status"] == value["status"]
            if not is_passed and value != self._last:
                self._last = value
                out.append(line(value))
        return b"".join(out)

    def fail(self, problem: Problem) -> bytes:
        """The one error line that ends a stream."""
        return error_body(problem) + b"\n"


def _download(event: Progress) -> dict[str, Any]:
    """Clients of this API draw a bar for each digest; where none is known, one for all files."""
    if event.digest and event.file_bytes is not None:
        name = event.digest.removeprefix("sha256:")[:12]
        counts = {"digest": event.digest, "total": event.file_bytes, "completed": event.file_done}
        return {"status": f"pulling {name}"} | counts
    value: dict[str, Any] = {"status": f"pulling {event.detail}", "completed": int(event.done)}
    return value | ({} if event.total is None else {"total": int(event.total)})


def _value(event: Event) -> dict[str, Any] | None:
    match event:
        case Progress("resolve"):
            return {"status": "pulling manifest"}
        case Progress("verify"):
            return {"status": "verifying sha256 digest"}
        case Progress("download"):
            return _download(event)
        case Notice("status", message):
            return {"status": message}
        case Finished():
            return SUCCESS
    return None
