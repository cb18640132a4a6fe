"""What is asked of a target and what is kept of its answer. Values and one protocol; no I/O."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One chat request, in OpenAI's shapes. Always greedy and streamed.

    `ignore_eos` asks for exactly `max_tokens` tokens, so that every target does the same work.
    """

    messages: tuple[Json, ...]
    max_tokens: int
    ignore_eos: bool = True
    schema: Json | None = None
    tools: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Times are of one clock (`time.perf_counter`), in seconds.

    `arrivals` holds one time for each piece of text. `num_output` is the target's own count; `estimated` says that it
    gave none and the pieces were counted. `num_cached` None: the target does not tell. `error` None: all went well.
    """

    began: float
    ended: float
    arrivals: tuple[float, ...] = ()
    text: str = ""
    num_prompt: int = 0
    num_cached: int | None = None
    num_output: int = 0
    estimated: bool = False
    error: str | None = None

    @property
    def first_token_s(self) -> float:
        """Seconds from sending the request to its first text."""
        return self.arrivals[0] - self.began

    @property
    def failed(self) -> bool:
        """Whether it brought an error, or no text at all."""
        return self.error is not None or not self.arrivals


@dataclass(slots=True)
class Mark:
    """Set once a running answer has brought `num_pieces` pieces, and at its end whatever it brought."""

    num_pieces: int
    reached: asyncio.Event = field(default_factory=asyncio.Event)


class Target(Protocol):
    """Something that answers chats."""

    @property
    def name(self) -> str:
        """What the report calls it."""
        ...

    async def open(self) -> None:
        """Get ready for calls. Raises TargetError."""
        ...

    async def ask(self, call: Call, mark: Mark | None = None) -> Answer:
        """Carry out a call. Failures come back in the Answer; nothing is tried twice."""
        ...

    async def close(self) -> None:
        """End what `open` began."""
        ...


class TargetError(Exception):
    """A target cannot be measured at all."""


def failed_answer(began: float, ended: float, error: str) -> Answer:
    """The Answer of a call that brought nothing but an error."""
    return Answer(began, ended, error=error)
