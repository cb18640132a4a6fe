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


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A prefix on disk. One object stands for it in all operations and reports of a process."""

    tokens: list[int]
    scope: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """Begin to read `stored` from disk, to become the saved state `key`. Its end is reported as Fetched."""

    stored: Stored
    key: int


@dataclass(frozen=True, slots=True)
class Store:
    """Begin to write the state of `slot`, else the saved state `key`, to disk; `replaces` go when it is there.

    Its end is reported as Written.
    """

    stored: Stored
    slot: int | None
    key: int | None
    replaces: tuple[Stored, ...] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """Copy what cannot be cut of a slot's state into host memory under `key`."""

    slot: int
    key: int


@dataclass(frozen=True, slots=True)
class Rewind:
    """Put a slot, whose first `num_tokens` are those that `key` was marked after, back to there.

    With a recurrent model the slot may be empty: the mark is its whole state.
    """

    slot: int
    key: int
    num_tokens: int


Op = Copy | Trim | Save | Restore | Drop | Fetch | Store | Mark | Rewind


@dataclass(frozen=True, slots=True)
class Fetched:
    """A Fetch ended: the state is there, or what lay on disk was of no use and is gone."""

    stored: Stored
    key: int
    ok: bool


@dataclass(frozen=True, slots=True)
class Written:
    """A Store ended."""

    stored: Stored
    ok: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """What lay on disk is gone: it made room for others, or another process removed it."""

    stored: Stored


DiskNews = Fetched | Written | Lost


# Tokens of prompts whose probabilities are wanted, in one step: llama.cpp keeps the logits of each.
MAX_SCORED = 32


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one sequence, from position `start`.

    `samples`: a next token is wanted. The last `num_drafts` tokens are guesses: each is checked against what the model
    chooses at its place, and counts only while all before it were right. `scored`: the tokens that follow each of
    `tokens` in the prompt, whose probabilities are wanted.
    """

    sequence_id: int
    slot: int
    start: int
    tokens: list[int]
    samples: bool
    num_drafts: int = 0
    scored: tuple[int, ...] = ()

    @property
    def drafts(self) -> list[int]:
        """The guesses at its end."""
        return self.tokens[len(self.tokens) - self.num_drafts :]


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: `ops` in order, then all chunks in one decode. Chunks are sorted by slot."""

    ops: list[Op] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.ops or self.chunks)


@dataclass(frozen=True, slots=True)
class Sampled:
    """What followed a chunk: one or more tokens, in order.

    The first `num_accepted` repeat the chunk's drafts and are computed already; the next one is the model's own choice.
    The last `num_forced` were dictated by a constraint. `ends`: the last token is an end of generation. `complete`: the
    last token is part of the answer, and nothing may follow it. `logprobs` belong to the tokens, one each, or there are
    none; they are opaque to the scheduler. `failure`: why the answer cannot follow its constraint; it ends here.
    """

    tokens: tuple[int, ...]
    ends: bool = False
    complete: bool = False
    num_accepted: int = 0
    num_forced: int = 0
    logprobs: tuple[Any, ...] = ()
    failure: str | None = None
