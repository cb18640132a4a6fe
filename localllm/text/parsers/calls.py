"""What an answer is cut into where tools may be called: text, reasoning, and calls. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from localllm.text.parsers.tags import Piece


class CallBegin(NamedTuple):
    """A call begins. `id` is the model's own where its format has one, else a new one."""

    name: str
    id: str


class CallArguments(NamedTuple):
    """More of the JSON text of the call's arguments."""

    text: str


class CallEnd(NamedTuple):
    """The call is whole, or all there will be of it."""


CallPiece = CallBegin | CallArguments | CallEnd
AnswerPiece = Piece | CallPiece


class AnswerParser(Protocol):
    """Cuts one answer into pieces as it arrives; an OutputParser is one that finds no calls."""

    @property
    def wants_special(self) -> frozenset[str]:
        """See OutputParser."""
        ...

    @property
    def in_reasoning(self) -> bool:
        """See OutputParser."""
        ...

    def feed(self, text: str) -> Sequence[AnswerPiece]:
        """The pieces that `text` completes."""
        ...

    def flush(self) -> Sequence[AnswerPiece]:
        """What was still held back, at the end of the output."""
        ...
