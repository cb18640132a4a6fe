"""What one engine step does: cache operations, then chunks of tokens. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Copy:
    """Make the first `num_tokens` of slot `source` the content of empty slot `target`."""

    source: int
    target: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Trim:
    """Keep the first `num_tokens` of a slot; 0 empties it."""

    slot: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Save:
    """Copy a slot's state into host memory under `key`."""

    slot: int
    key: int


@dataclass(frozen=True, slots=True)
class Restore:
    """Fill an empty slot from the saved state `key`, keeping the first `num_tokens`."""

    key: int
    slot: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget the saved state `key`."""

    key: int


Op = Copy | Trim | Save | Restore | Drop


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one sequence, from position `start`. `samples`: a next token is wanted after the last."""

    sequence_id: int
    slot: int
    start: int
    tokens: list[int]
    samples: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: `ops` in order, then all chunks in one decode. Chunks are sorted by slot."""

    ops: list[Op] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.ops or self.chunks)


@dataclass(frozen=True, slots=True)
class Sampled:
    """The token chosen after a chunk. `ends`: it ends the generation. `logprobs` is opaque to the scheduler."""

    token: int
    ends: bool
    logprobs: Any = None
