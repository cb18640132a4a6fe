"""Grammar and Matcher: what an answer is bound to, as it passes from who compiles it to who samples. Protocols only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Matcher(Protocol):
    """Where one answer stands in its grammar. `prepare` may run on another thread than the rest, never beside it."""

    @property
    def complete(self) -> bool:
        """Whether the answer is whole and nothing may follow."""
        ...

    @property
    def failure(self) -> str | None:
        """Why the grammar cannot be followed any further: it ran into a limit of its own."""
        ...

    def prepare(self, drafts: Sequence[int]) -> None:
        """Find out what may come next, and what after each draft as far as the grammar allows them."""
        ...

    def allows(self, token: int) -> bool:
        """Whether a token may come next."""
        ...

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Which tokens may come next; the caller may change it."""
        ...

    def advance(self, token: int) -> None:
        """Take a token that was allowed."""
        ...

    def accept(self, tokens: Iterable[int]) -> None:
        """Take tokens that somebody else put there."""
        ...

    def forced(self) -> list[int]:
        """Tokens that follow without a choice; they are taken already."""
        ...


class Grammar(Protocol):
    """A compiled constraint. Several answers of one request share it."""

    def begin(self) -> Matcher:
        """A matcher at the beginning."""
        ...
