"""Source: text that is still arriving, for readers that are written as if it were all there.

A reader is a generator: it yields where it needs more text, and is resumed when there is some. Each step looks at new
text only, so that reading is linear however the text is cut. Raises Malformed where a call is none.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Reading = Generator[None, None, T]

_SPACE = re.compile(r"\s*")
MAX_NAME_CHARS = 256


class MalformedCall(Exception):
    """What was read is no call."""


class Source:
    """The text, and how far it is read. `taken` gives back what was read since `mark`."""

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.ended = False
        self._marked = 0
        self._before: list[str] = []

    def push(self, text: str) -> None:
        """More text came."""
        self._before.append(self.text[self._marked : self.at])
        self.text = self.text[self.at :] + text
        self.at = self._marked = 0

    def mark(self) -> None:
        """Forget what was read."""
        self._before.clear()
        self._marked = self.at

    def taken(self) -> str:
        """What was read since the last mark."""
        return "".join(self._before) + self.text[self._marked : self.at]

    def more(self) -> Reading[None]:
        """Wait for more text. Raises MalformedCall where none comes."""
        if self.ended:
            raise MalformedCall
        yield

    def peek(self) -> Reading[str]:
        """The next character."""
        while self.at >= len(self.text):
            yield from self.more()
        return self.text[self.at]

    def space(self) -> Reading[None]:
        """Skip white space; the end of the text ends it too."""
        while True:
            match = _SPACE.match(self.text, self.at)
            assert match is not None
            self.at = match.end()
            if self.at < len(self.text) or self.ended:
                return
            yield

    def sees(self, literal: str) -> Reading[bool]:
        """Whether a text comes next."""
        while not self.text.startswith(literal, self.at):
            rest = self.text[self.at : self.at + len(literal)]
            if self.ended or not literal.startswith(rest):
                return False
            yield
        return True

    def skip(self, literal: str) -> Reading[bool]:
        """Read a text where it comes next; False: something else does."""
        found = yield from self.sees(literal)
        self.at += len(literal) if found else 0
        return found

    def expect(self, literal: str) -> Reading[None]:
        """Read a text that has to come next."""
        if not (yield from self.skip(literal)):
            raise MalformedCall

    def until(self, literal: str) -> Reading[str]:
        """Read up to a text and past it; what stood before it."""
        parts: list[str] = []
        while (found := self.text.find(literal, self.at)) < 0:
            size = max(self.at, len(self.text) - len(literal) + 1)
            parts.append(self.text[self.at : size])
            self.at = size
            yield from self.more()
        parts.append(self.text[self.at : found])
        self.at = found + len(literal)
        return "".join(parts)

    def run(self, pattern: re.Pattern[str], most: int = MAX_NAME_CHARS) -> Reading[str]:
        """Read characters as long as each matches `pattern`, which is repeated; at most so many."""
        found = ""
        while True:
            match = pattern.match(self.text, self.at)
            if match is not None:
                found += match[0]
                self.at = match.end()
            if len(found) > most:
                raise MalformedCall
            if self.at < len(self.text) or self.ended:
                return found
            yield
