"""A block of code whose closing fence has not come: its lines are taken in one by one and never parsed again."""

from __future__ import annotations

import re

from localllm_tui.markdown.code import GrowingCode
from localllm_tui.markdown.layout import code_head, code_lines
from localllm_tui.markdown.values import Line

_OPEN = re.compile(r"( {0,3})(`{3,}|~{3,})[ \t]*([^\n]*)\n")


class OpenFence:
    """The block under way. `feed` takes text; what comes after the closing fence is given back."""

    def __init__(self, indent: int, mark: str, info: str, index: int) -> None:
        self.info = info
        self.code: list[str] = [""]
        self._indent = indent
        self._close = re.compile(rf" {{0,3}}{re.escape(mark[0])}{{{len(mark)},}}[ \t]*$")
        self._half_close = re.compile(rf" {{0,3}}{re.escape(mark[0])}*[ \t]*$")
        words = info.split()
        self.language = words[0] if words else ""
        self.index = index
        self._growing = GrowingCode(self.language)
        self._width = 0
        self._lines: list[Line] = []
        self._starts: list[int] = []

    @property
    def text(self) -> str:
        """The code so far."""
        return "\n".join(self.code)

    def feed(self, text: str) -> str | None:
        """Take text in. None: the block goes on; else it is whole, and this comes after it."""
        position = 0
        while True:
            end = text.find("\n", position)
            if end < 0:
                self.code[-1] += self._strip(text[position:])
                return None
            line = self.code[-1] + self._strip(text[position:end])
            position = end + 1
            if self._close.match(line):
                self.code.pop()
                return text[position:]
            self.code[-1] = line
            self.code.append("")

    def finish(self) -> None:
        """No more comes."""
        if self._close.match(self.code[-1]) or not self.code[-1]:
            self.code.pop()

    def _strip(self, text: str) -> str:
        """A block that is indented loses that much of each line."""
        if self._indent and not self.code[-1]:
            blank = len(text) - len(text.lstrip(" "))
            return text[min(blank, self._indent) :]
        return text

    def lines(self, width: int) -> list[Line]:
        """The block as it is drawn now."""
        shown = self.code
        if self._half_close.match(shown[-1]):
            shown = [*shown[:-1], ""]
        coloured, first = self._growing.show(shown)
        if width != self._width:
            self._width, first = width, 0
            self._lines, self._starts = [], []
        first = min(first, len(self._starts))
        if first < len(self._starts):
            del self._lines[self._starts[first] :]
            del self._starts[first:]
        for line in coloured[first:-1]:
            self._starts.append(len(self._lines))
            self._lines.extend(code_lines([line], width))
        last = code_lines(coloured[-1:], width) if shown[-1] else []
        return [code_head(self.language, self.index, width), *self._lines, *last]


def opening(text: str, index: int) -> tuple[OpenFence, str] | None:
    """The fence that `text` starts with, and what follows its line; None where there is none."""
    match = _OPEN.match(text)
    if match is None or (match[2][0] == "`" and "`" in match[3]):
        return None
    return OpenFence(len(match[1]), match[2], match[3].strip(), index), text[match.end() :]
