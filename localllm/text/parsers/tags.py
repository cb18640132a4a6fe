"""Reasoning between two tags at the start of an answer, and the record that describes a format.

Owns the splitter that most formats share; which tags a format uses stands in that format's file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from localllm.text.segments import Segment

Kind = Literal["text", "reasoning"]
Piece = tuple[Kind, str]

_MAX_HELD_NEWLINES = 8
_MAX_HELD_SPACE = 32


class OutputParser(Protocol):
    """Cuts one answer's text into pieces, as it arrives."""

    @property
    def wants_special(self) -> frozenset[str]:
        """Control tokens (by text) that the parser must see; all others render as nothing."""
        ...

    @property
    def in_reasoning(self) -> bool:
        """Whether what arrives next is, so far as known, reasoning (for counting reasoning tokens)."""
        ...

    def feed(self, text: str) -> list[Piece]:
        """The pieces that `text` completes; a possible part of a tag is held back."""
        ...

    def flush(self) -> list[Piece]:
        """What was still held back, at the end of the output."""
        ...


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """How a family of models writes its reasoning.

    `marks`: a template that holds all of them is of this format. `start`, `end`: what opens and closes the reasoning.
    `answer`: what has to follow a generation prompt before the answer, where reasoning is left out.
    `parser(starts_in_reasoning)` makes a parser for one answer.
    """

    name: str
    marks: tuple[str, ...]
    start: str
    end: str
    parser: Callable[[bool], OutputParser]
    answer: str = ""

    @property
    def closing(self) -> str:
        """What ends the reasoning and begins the answer, written out as templates do; empty without reasoning."""
        if not self.end:
            return ""
        return self.end if self.answer else f"\n{self.end}\n\n"

    def is_opened_by(self, segments: Sequence[Segment]) -> bool:
        """Whether a prompt ends with the reasoning opened, by the template's own text."""
        if not segments or not self.start or not segments[-1].trusted:
            return False
        return segments[-1].text.rstrip().endswith(self.start)


class TagParser:
    """`start` reasoning `end` answer. Only what begins an answer is reasoning; tags further on are text.

    `drops`: tags that wrap the answer and mean nothing to a reader.
    """

    def __init__(
        self, start: str, end: str, *, starts_in_reasoning: bool, special: Iterable[str], drops: Sequence[str] = ()
    ) -> None:
        self.wants_special = frozenset(special)
        self._start = start
        self._end = end
        self._drops = tuple(drops)
        self._held = ""
        self._newlines = ""
        self._state: Callable[[list[Piece]], bool] = self._begin_reasoning if starts_in_reasoning else self._begin

    @property
    def in_reasoning(self) -> bool:
        """Whether the reasoning is open."""
        return self._state in (self._begin_reasoning, self._reasoning)

    def feed(self, text: str) -> list[Piece]:
        """The pieces that `text` completes."""
        self._held += text
        pieces: list[Piece] = []
        # A state works on what is held; it says whether the next one can go on with the rest.
        while self._held and self._state(pieces):
            pass
        return pieces

    def flush(self) -> list[Piece]:
        """What was held back."""
        held, self._held = self._held, ""
        kind: Kind = "reasoning" if self.in_reasoning else "text"
        return [(kind, held)] if held.strip() or (held and kind == "text") else []

    def _begin(self, _: list[Piece]) -> bool:
        text = self._held.lstrip()
        if text.startswith(self._start):
            self._held = text[len(self._start) :]
            self._state = self._begin_reasoning
            return True
        if self._start.startswith(text) and len(self._held) - len(text) <= _MAX_HELD_SPACE:
            return False
        self._state = self._answer
        return True

    def _begin_reasoning(self, _: list[Piece]) -> bool:
        # A model may repeat the tag that its prompt ended with.
        text = self._held.lstrip("\r\n")
        if text.startswith(self._start):
            text = text[len(self._start) :].lstrip("\r\n")
        elif text and self._start.startswith(text):
            self._held = text
            return False
        self._held = text
        if text:
            self._state = self._reasoning
        return bool(text)

    def _reasoning(self, pieces: list[Piece]) -> bool:
        position = self._held.find(self._end)
        if position >= 0:
            body = (self._newlines + self._held[:position]).rstrip("\r\n")
            _emit(pieces, "reasoning", body)
            self._newlines = ""
            self._held = self._held[position + len(self._end) :]
            self._state = self._begin_answer
            return True
        size = len(self._held) - num_held(self._held, (self._end,))
        body, self._held = self._newlines + self._held[:size], self._held[size:]
        bare = body.rstrip("\r\n")
        if len(body) - len(bare) > _MAX_HELD_NEWLINES:
            bare = body
        self._newlines = body[len(bare) :]
        _emit(pieces, "reasoning", bare)
        return False

    def _begin_answer(self, _: list[Piece]) -> bool:
        self._held = self._held.lstrip("\r\n")
        if self._held:
            self._state = self._answer
        return bool(self._held)

    def _answer(self, pieces: list[Piece]) -> bool:
        found = [(position, drop) for drop in self._drops if (position := self._held.find(drop)) >= 0]
        if found:
            position, drop = min(found)
            _emit(pieces, "text", self._held[:position])
            self._held = self._held[position + len(drop) :]
            self._state = self._begin_answer
            return True
        size = len(self._held) - num_held(self._held, self._drops)
        _emit(pieces, "text", self._held[:size])
        self._held = self._held[size:]
        return False


class PlainParser:
    """All of an answer is text."""

    wants_special: frozenset[str] = frozenset()
    in_reasoning = False

    def feed(self, text: str) -> list[Piece]:
        """The text itself."""
        return [("text", text)] if text else []

    def flush(self) -> list[Piece]:
        """Nothing is ever held."""
        return []


def num_held(text: str, tags: Iterable[str]) -> int:
    """How many characters at the end of `text` may be the beginning of one of `tags`."""
    return max((_num_begun(text, tag) for tag in tags), default=0)


def _num_begun(text: str, tag: str) -> int:
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:size])), 0)


def _emit(pieces: list[Piece], kind: Kind, text: str) -> None:
    if text:
        pieces.append((kind, text))
