"""Where in a text a term is, and the line around it. Pure; knows no database.

A folded text is as long as the text, so that a place in one is a place in the other.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_BEFORE, _AFTER = 40, 160
# What is behind is searched by the index, but not for a snippet: an attachment may have megabytes.
_LOOKED_AT = 300_000


class _Folding(dict[int, str]):
    """Character to character: lower case, without accents."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        plain = unicodedata.normalize("NFKD", char.lower())[:1] or char
        self[code] = plain
        return plain


_folding = _Folding()


class Wanted:
    """Terms to be found in texts. `terms`: each with whether its last word may go on."""

    def __init__(self, terms: list[tuple[str, bool]]) -> None:
        self._patterns = [_pattern(term, is_open) for term, is_open in terms]

    def snippet(self, text: str) -> tuple[tuple[str, bool], ...]:
        """A line of `text` around the first place where a term is, in pieces, each with whether it is a term."""
        text = text[:_LOOKED_AT]
        folded = text.lower()
        first = self._first(folded) if len(folded) == len(text) else None
        if first is None and not text.isascii():
            folded = text.translate(_folding)
            first = self._first(folded)
        if first is None:
            stop = min(len(text), _BEFORE + _AFTER)
            return _pieces(text, 0, stop, [])
        start = _word_start(text, first[0])
        stop = min(len(text), first[1] + _AFTER)
        spans = sorted(span for pattern in self._patterns for span in _spans(pattern, folded, start, stop))
        return _pieces(text, start, stop, spans)

    def _first(self, folded: str) -> tuple[int, int] | None:
        found = (next(_spans(pattern, folded, 0, len(folded)), None) for pattern in self._patterns)
        return min((span for span in found if span is not None), default=None)


def _pattern(term: str, is_open: bool) -> tuple[re.Pattern[str], bool]:
    """For a folded text; and whether a word has to begin there. It begins with plain letters, which `re` finds fast."""
    words = [re.escape(word) for word in re.findall(r"[^\W_]+", term.lower().translate(_folding))]
    is_spaced = not any(ord(char) >= 0x0E00 and char.isalpha() for char in term)
    end = "" if not is_spaced else r"[^\W_]*" if is_open else r"(?![^\W_])"
    return re.compile(r"[\W_]+".join(words) + end), is_spaced


def _spans(pattern: tuple[re.Pattern[str], bool], text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    compiled, is_spaced = pattern
    for match in compiled.finditer(text, start, stop):
        if match.end() > match.start() and not (is_spaced and match.start() and text[match.start() - 1].isalnum()):
            yield match.span()


def _word_start(text: str, place: int) -> int:
    """A little before `place`, where a word begins if one does."""
    start = max(0, place - _BEFORE)
    if start == 0:
        return 0
    space = re.compile(r"\s+").search(text, start, place)
    return space.end() if space else start


def _pieces(text: str, start: int, stop: int, spans: list[tuple[int, int]]) -> tuple[tuple[str, bool], ...]:
    pieces: list[tuple[str, bool]] = [("…", False)] if start else []
    done = start
    for begin, end in spans:
        if begin >= done:
            pieces += [(text[done:begin], False), (text[begin:end], True)]
            done = end
    pieces += [(text[done:stop], False), ("…" if stop < len(text) else "", False)]
    return tuple((re.sub(r"\s+", " ", piece), is_found) for piece, is_found in pieces if piece)
