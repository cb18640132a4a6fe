"""Which bytes of a download are here: parts, and the small file that remembers them. No network, no threads.

The memory is written after the bytes, so a killed process loses work but never believes bytes that are not there.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from localllm.store.sources.remote import RemoteFile

STATE_NAME = "state"
MAX_STATE_BYTES = 4 << 20


class Part(msgspec.Struct):
    """Bytes `start` to `end` (exclusive; None: to the end, wherever that is), of which those before `pos` are here.

    `failures` counts since `best`, the farthest byte seen. `epoch` is raised when the whole download begins anew.
    """

    start: int
    pos: int
    end: int | None
    failures: int = 0
    best: int = 0
    epoch: int = 0

    @property
    def complete(self) -> bool:
        """True when nothing is missing."""
        return self.end is not None and self.pos >= self.end


class State(msgspec.Struct, frozen=True):
    """What is known of the file that the parts belong to. `validator`: its ETag, else its Last-Modified."""

    url: str
    size_bytes: int
    validator: str | None
    sha256: str | None
    parts: tuple[tuple[int, int, int], ...]


def plan(start: int, size_bytes: int, part_bytes: int, epoch: int = 0) -> list[Part]:
    """Parts that cover a file of this size from `start` on."""
    starts = range(start, size_bytes, part_bytes)
    return [Part(at, at, min(at + part_bytes, size_bytes), epoch=epoch) for at in starts]


def split(parts: list[Part], part_bytes: int) -> list[Part]:
    """The same parts with what is missing cut into pieces of at most `part_bytes`."""
    cut: list[Part] = []
    for part in parts:
        assert part.end is not None
        if part.pos > part.start:
            cut.append(Part(part.start, part.pos, part.pos))
        cut.extend(Part(at, at, min(at + part_bytes, part.end)) for at in range(part.pos, part.end, part_bytes))
    return cut


def load(directory: Path, data: Path) -> State | None:
    """The remembered state of `data`; None where there is none that fits the file."""
    try:
        with (directory / STATE_NAME).open("rb") as file:
            state = msgspec.json.decode(file.read(MAX_STATE_BYTES), type=State)
        have = data.stat().st_size
    except (OSError, msgspec.MsgspecError):
        return None
    at = 0
    for start, pos, end in state.parts:
        if not (start == at <= pos <= end) or (pos > start and pos > have):
            return None
        at = end
    return state if at == state.size_bytes else None


def fits(state: State, file: RemoteFile) -> bool:
    """True when what is here may be the beginning of `file`.

    Bytes with the same promised digest are the same, whichever source they come from; others must be of one address and
    of one version.
    """
    if file.size_bytes is not None and state.size_bytes != file.size_bytes:
        return False
    if state.sha256 != file.sha256:
        return False
    return file.sha256 is not None or (state.url == file.url and state.validator is not None)


def save(directory: Path, state: State) -> None:
    """Remember a state, whole or not at all."""
    temp = directory / f"{STATE_NAME}.new"
    with temp.open("wb") as file:
        file.write(msgspec.json.encode(state))
        file.flush()
        os.fsync(file.fileno())
    temp.replace(directory / STATE_NAME)


def forget(directory: Path) -> None:
    """Remove the memory."""
    for name in (STATE_NAME, f"{STATE_NAME}.new"):
        with contextlib.suppress(FileNotFoundError):
            (directory / name).unlink()
