"""Text that remembers who wrote it. Owns Segment, Marked and the string operations that keep marks.

A mark says that the template's own source holds these characters. Whatever is not covered by a mark is data. Every
operation that cannot keep marks exactly drops them, so a mistake here costs a control token and never forges one.
Knows neither jinja nor tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, SupportsIndex

from localllm.text.limits import check_width, spend_chars

Spans = tuple[tuple[int, int], ...]


class Segment(NamedTuple):
    """A piece of a rendered prompt. `trusted`: written by the template itself, so control tokens in it count."""

    text: str
    trusted: bool


class Marked(str):
    """A string with the (start, end) ranges of it that the template itself holds: sorted, apart, not empty."""

    __slots__ = ("spans",)
    spans: Spans

    def __new__(cls, text: str = "", spans: Spans = ()) -> Marked:
        self = super().__new__(cls, text)
        self.spans = spans
        return self

    def __str__(self) -> str:
        return self

    def __add__(self, other: Any) -> str:
        return join_pieces((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any) -> str:
        return join_pieces((other, self)) if isinstance(other, str) else NotImplemented

    def __mul__(self, times: SupportsIndex) -> str:
        spend_chars(len(self) * times.__index__())
        return join_pieces([self] * times.__index__())

    __rmul__ = __mul__

    def __mod__(self, args: Any) -> str:
        return percent_format(self, args)

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            return _cut(self, start, max(start, stop)) if step == 1 else super().__getitem__(key)
        index = key.__index__()
        index += len(self) if index < 0 else 0
        return _marked(super().__getitem__(key), _clip(self.spans, index, index + 1))

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def strip(self, chars: str | None = None, /) -> str:
        end = len(super().rstrip(chars))
        return _cut(self, min(len(self) - len(super().lstrip(chars)), end), end)

    def lstrip(self, chars: str | None = None, /) -> str:
        return _cut(self, len(self) - len(super().lstrip(chars)), len(self))

    def rstrip(self, chars: str | None = None, /) -> str:
        return _cut(self, 0, len(super().rstrip(chars)))

    def removeprefix(self, prefix: str, /) -> str:
        return _cut(self, len(self) - len(super().removeprefix(prefix)), len(self))

    def removesuffix(self, suffix: str, /) -> str:
        return _cut(self, 0, len(super().removesuffix(suffix)))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._locate(super().split(sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._locate(super().rsplit(sep, maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[str]:
        lines = []
        position = 0
        for line, whole in zip(super().splitlines(keepends), super().splitlines(True), strict=True):
            lines.append(_cut(self, position, position + len(line)))
            position += len(whole)
        return lines

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        head, middle, tail = super().partition(sep)
        return self._three(len(head), len(head) + len(middle), len(tail))

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        head, middle, tail = super().rpartition(sep)
        return self._three(len(head), len(head) + len(middle), len(tail))

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        return replace(self, old, new, count)

    def join(self, items: Iterable[str], /) -> str:
        return join(self, items)

    def upper(self) -> str:
        return remark(self, super().upper())

    def lower(self) -> str:
        return remark(self, super().lower())

    def title(self) -> str:
        return remark(self, super().title())

    def capitalize(self) -> str:
        return remark(self, super().capitalize())

    def swapcase(self) -> str:
        return remark(self, super().swapcase())

    def _locate(self, parts: list[str], sep: str | None) -> list[str]:
        """The parts of a split with their marks.

        Between two lies `sep`, or whitespace, which no part but the first starts with.
        """
        found = []
        position = 0
        for part in parts:
            start = position if sep is not None else self.find(part, position)
            position = start + len(part)
            found.append(_cut(self, start, position))
            position += len(sep or "")
        return found

    def _three(self, first: int, second: int, num_last: int) -> tuple[str, str, str]:
        return _cut(self, 0, first), _cut(self, first, second), _cut(self, len(self) - num_last, len(self))


def trusted(text: str) -> str:
    """`text` as the template's own."""
    return Marked(text, ((0, len(text)),)) if text else text


def is_trusted(text: str) -> bool:
    """Whether the template holds all of `text`."""
    return spans_of(text) == ((0, len(text)),)


def spans_of(text: str) -> Spans:
    """The trusted ranges of any string."""
    return text.spans if isinstance(text, Marked) else ()


def join_pieces(pieces: Iterable[str]) -> str:
    """The pieces one after the other. Raises LimitExceeded."""
    listed = pieces if isinstance(pieces, (list, tuple)) else list(pieces)
    spend_chars(sum(map(len, listed)))
    spans: list[tuple[int, int]] = []
    offset = 0
    for piece in listed:
        for start, end in spans_of(piece):
            if spans and spans[-1][1] == offset + start:
                spans[-1] = (spans[-1][0], offset + end)
            else:
                spans.append((offset + start, offset + end))
        offset += len(piece)
    return _marked("".join(listed), tuple(spans))


def join(separator: str, items: Iterable[str]) -> str:
    """`separator.join(items)` with marks and a cap."""
    pieces: list[str] = []
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f"join: expected a string, not {type(item).__name__}")
        if pieces and separator:
            pieces.append(separator)
        pieces.append(item)
    return join_pieces(pieces)


def replace(text: str, old: str, new: str, count: SupportsIndex = -1) -> str:
    """`text.replace(old, new, count)` with marks and a cap.

    What is put in for data is data, even where the template wrote it: data decides that it is there.
    """
    times = str.count(text, old) if count.__index__() < 0 else min(str.count(text, old), count.__index__())
    spend_chars(len(text) + times * max(0, len(new) - len(old)))
    plain = str.replace(text, old, new, count)
    if not isinstance(text, Marked) or not old:
        return plain
    pieces: list[str] = []
    position = 0
    for _ in range(times):
        start = text.find(old, position)
        end = start + len(old)
        pieces.append(_cut(text, position, start))
        pieces.append(new if _clip(text.spans, start, end) == ((0, end - start),) else _plain(new))
        position = end
    pieces.append(_cut(text, position, len(text)))
    return join_pieces(pieces)


def remark(before: str, after: str) -> str:
    """`after` with the marks of `before`, where each character stands for the one in its place."""
    return _marked(after, spans_of(before)) if len(before) == len(after) else _plain(after)


_CONVERSION = re.compile(
    r"%(?:\((?P<key>[^)]*)\))?[#0\- +]*(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d+))?[hlL]?(?P<kind>.)?", re.DOTALL
)


def percent_format(form: str, args: Any) -> str:
    """`form % args` with marks and caps: the form keeps its own, `%s` those of its value."""
    values = iter(args if isinstance(args, tuple) else (args,))
    pieces: list[str] = []
    position = 0
    for match in _CONVERSION.finditer(form):
        for field in ("width", "precision"):
            check_width(match[field])
        pieces.append(form[position : match.start()])
        position = match.end()
        if match["kind"] == "%":
            pieces.append(form[match.end() - 1 : match.end()])
            continue
        value = args[match["key"]] if match["key"] is not None else next(values, _MISSING)
        if value is _MISSING:
            raise TypeError("not enough arguments for format string")
        bare = match[0] if match["key"] is None else match[0].replace(f"({match['key']})", "", 1)
        pieces.append(str(value) if bare == "%s" else _plain(bare) % (value,))
    pieces.append(form[position:])
    if not isinstance(args, dict) and isinstance(args, tuple) and next(values, _MISSING) is not _MISSING:
        raise TypeError("not all arguments converted during string formatting")
    return join_pieces(pieces)


def to_segments(text: str) -> list[Segment]:
    """The alternating pieces of `text`."""
    segments: list[Segment] = []
    position = 0
    for start, end in spans_of(text):
        if start > position:
            segments.append(Segment(_plain(text)[position:start], False))
        segments.append(Segment(_plain(text)[start:end], True))
        position = end
    if position < len(text):
        segments.append(Segment(_plain(text)[position:], False))
    return segments


_MISSING = object()
_plain: Callable[[str], str] = str.__str__  # an exact str, whatever subclass came in


def _marked(text: str, spans: Spans) -> str:
    return Marked(text, spans) if spans else text


def _clip(spans: Spans, start: int, end: int) -> Spans:
    return tuple(
        (max(a, start) - start, min(b, end) - start) for a, b in spans if a < end and b > start and start < end
    )


def _cut(text: Marked, start: int, end: int) -> str:
    if start == 0 and end == len(text):
        return text
    return _marked(str.__getitem__(text, slice(start, end)), _clip(text.spans, start, end))
