"""Segments to token ids. Owns which text may become a control token; never looks at messages or templates' logic.

Only a template's own text can yield a control token. Everything else is tokenized as the characters it is made of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

from localllm.text.pieces import cut
from localllm.text.segments import Segment

TokenKind = Literal["control", "unknown", "user_defined"]


class SpecialToken(NamedTuple):
    """A vocabulary entry that llama.cpp matches as a whole. `text` is llama_vocab_get_text's, decoded.

    `kind`: the attribute LLAMA_TOKEN_ATTR_CONTROL, _UNKNOWN or _USER_DEFINED, tested in this order.
    `lstrip`, `rstrip`: the attribute bits of that name (whitespace on that side of the token is dropped).
    """

    id: int
    text: str
    kind: TokenKind
    lstrip: bool = False
    rstrip: bool = False


class Tokenizer(Protocol):
    """What this package needs of a vocabulary. The engine's runner provides it over llama.cpp."""

    @property
    def special_tokens(self) -> Sequence[SpecialToken]:
        """Every control, unknown and user-defined token; the same object on each call."""
        ...

    @property
    def bos(self) -> int | None:
        """The token that begins a text, if the vocabulary names one."""
        ...

    @property
    def add_bos(self) -> bool:
        """Whether the vocabulary wants `bos` in front of every prompt (llama_vocab_get_add_bos)."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """llama_tokenize with add_special and parse_special both false."""
        ...


# Vocabularies of the Gemma family hold the tags of HTML as user-defined tokens. They are vocabulary, not control.
_HTML = frozenset(
    {"a", "b", "blockquote", "body", "br", "caption", "code", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "head"}
    | {"hr", "html", "i", "img", "input", "li", "link", "meta", "ol", "p", "pre", "s", "script", "section", "span"}
    | {"strong", "style", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "title", "tr", "u", "ul"}
)
_MARKUP = re.compile(r"<[^\s<>]+>|\[[^\s\[\]]+\]")
_BRACKETS = re.compile(r"[<>\[\]|｜]")
_SPACES = " \t\n\v\f\r"  # isspace of the C locale, which is what llama.cpp strips


class Encoder:
    """Turns segments into token ids for one vocabulary and one template's source (which names tokens of its own)."""

    def __init__(self, tokenizer: Tokenizer, template_source: str) -> None:
        self.tokenizer = tokenizer
        control = [token for token in tokenizer.special_tokens if token.kind != "user_defined" and token.text]
        guarded = [
            t for t in tokenizer.special_tokens if t.kind == "user_defined" and is_guarded(t.text, template_source)
        ]
        self.special_texts = frozenset(token.text for token in [*guarded, *control])
        self._special = _Finder([*guarded, *control])
        self._guarded = _Finder(guarded)
        self._text_of = {token.id: token.text for token in [*guarded, *control] if token.kind != "unknown"}
        # A SentencePiece vocabulary may put a space before every text it is given, also before the rest of a cut one.
        self._adds_space = tokenizer.tokenize("a") != tokenizer.tokenize("\na")[-1:]
        self._newline = tokenizer.tokenize("\n")

    def encode(self, segments: Iterable[Segment], *, add_bos: bool = True, max_tokens: int | None = None) -> list[int]:
        """The ids of a rendered prompt, with the vocabulary's BOS in front where it wants one and none is there.

        Control tokens, and user-defined ones that look like markup, arise from trusted text only, where they lie in it
        wholly. All text between two of them is tokenized together, across the borders of segments. With more than
        `max_tokens` the rest is left out: text of that length is only counted to be refused.
        """
        text, spans = _flatten(segments)
        ids: list[int] = []
        for piece in self._pieces(text, spans):
            ids += [piece] if isinstance(piece, int) else self._tokenize(*piece)
            if max_tokens is not None and len(ids) > max_tokens:
                break
        bos = self.tokenizer.bos
        if add_bos and self.tokenizer.add_bos and bos is not None and ids[:1] != [bos]:
            ids.insert(0, bos)
        return ids

    def _pieces(self, text: str, spans: list[tuple[int, int]]) -> Iterator[int | tuple[str, bool]]:
        """Control tokens, and the text around them: pieces, each with whether it continues the one before."""
        position = 0
        strip = False
        for start, end, token in self._specials_in(text, spans):
            yield from self._gap(text[position:start], lstrip=strip, rstrip=token.lstrip)
            yield token.id
            position, strip = end, token.rstrip
        yield from self._gap(text[position:], lstrip=strip, rstrip=False)

    def _specials_in(self, text: str, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int, SpecialToken]]:
        for start, end in spans:
            yield from self._special.find(text, start, end)

    def _gap(self, text: str, *, lstrip: bool, rstrip: bool) -> Iterator[tuple[str, bool]]:
        """Text that holds no control token, whatever it looks like."""
        text = text.lstrip(_SPACES) if lstrip else text
        text = text.rstrip(_SPACES) if rstrip else text
        position = 0
        for start, _, _ in self._guarded.find(text, 0, len(text), overlapping=True):
            # llama.cpp matches user-defined tokens in any text: cut such a one apart behind its first character.
            yield from self._bounded(text[position : start + 1], position > 0)
            position = start + 1
        yield from self._bounded(text[position:], position > 0)

    def _bounded(self, text: str, is_rest: bool) -> Iterator[tuple[str, bool]]:
        for index, piece in enumerate(cut(text)):
            yield piece, is_rest or index > 0

    def _tokenize(self, text: str, is_rest: bool) -> list[int]:
        """Ids of text without a guarded token in it; `is_rest`: more text stands right before it."""
        if not text:
            return []
        ids = self._tokenize_rest(text) if is_rest and self._adds_space else self.tokenizer.tokenize(text)
        if self._text_of.keys().isdisjoint(ids):
            return ids
        # The merges of a SentencePiece vocabulary can end at a control token as at any other: spell that one out.
        spelled: list[int] = []
        for token in ids:
            characters = self._text_of.get(token)
            spelled += [token] if characters is None else [i for c in characters for i in self._tokenize_rest(c)]
        return spelled

    def _tokenize_rest(self, text: str) -> list[int]:
        """Ids of text as it continues other text, so without a space put before it."""
        ids = self.tokenizer.tokenize("\n" + text)
        size = len(self._newline)
        return ids[size:] if ids[:size] == self._newline else self.tokenizer.tokenize(text)


def is_guarded(text: str, template_source: str) -> bool:
    """Whether a user-defined token acts as a control token: it looks like markup, or the template writes it as such."""
    if len(text) < 3 or not _BRACKETS.search(text):
        return False
    if text in template_source:
        return True
    return bool(_MARKUP.fullmatch(text)) and text.strip("<>/[]").lower() not in _HTML


class _Finder:
    """Finds tokens' texts, leftmost and longest first, in time that grows with the text alone."""

    _KEY_CHARS = 3

    def __init__(self, tokens: Iterable[SpecialToken]) -> None:
        self._by_text = {token.text: token for token in tokens}
        sizes: dict[str, set[int]] = {}
        for text in self._by_text:
            sizes.setdefault(text[: self._KEY_CHARS], set()).add(len(text))
        self._sizes = {key: sorted(found, reverse=True) for key, found in sizes.items()}
        self._key_sizes = sorted({len(key) for key in sizes}, reverse=True)
        first = "".join(map(re.escape, sorted({text[0] for text in self._by_text})))
        self._first = re.compile(f"[{first}]") if first else None

    def find(
        self, text: str, start: int, end: int, *, overlapping: bool = False
    ) -> Iterator[tuple[int, int, SpecialToken]]:
        """(start, end, token) of each that lies in text[start:end]."""
        if self._first is None:
            return
        while (candidate := self._first.search(text, start, end)) is not None:
            start = candidate.start()
            token = self._at(text, start, end)
            if token is not None:
                yield start, start + len(token.text), token
            start += len(token.text) if token is not None and not overlapping else 1

    def _at(self, text: str, start: int, end: int) -> SpecialToken | None:
        for key_size in self._key_sizes:
            for size in self._sizes.get(text[start : start + key_size], ()):
                if start + size <= end and (token := self._by_text.get(text[start : start + size])) is not None:
                    return token
        return None


def _flatten(segments: Iterable[Segment]) -> tuple[str, list[tuple[int, int]]]:
    """The whole text, and the trusted ranges of it."""
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    offset = 0
    for text, is_trusted in segments:
        pieces.append(text)
        if is_trusted and text:
            if spans and spans[-1][1] == offset:
                spans[-1] = (spans[-1][0], offset + len(text))
            else:
                spans.append((offset, offset + len(text)))
        offset += len(text)
    return "".join(pieces), spans
