"""Segments to token ids. Owns which text may become a control token; never looks at messages or templates' logic.

Only a template's own text can yield a control token. Everything else is tokenized as the characters it is made of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

from localllm.chat.segments import Segment

TokenKind = Literal["control", "user_defined"]


class SpecialToken(NamedTuple):
    """A vocabulary entry that llama.cpp matches as a whole. `text` is llama_vocab_get_text's, decoded.

    `kind`: "control" for LLAMA_TOKEN_ATTR_CONTROL and _UNKNOWN, "user_defined" for _USER_DEFINED.
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
        control = [token for token in tokenizer.special_tokens if token.kind == "control" and token.text]
        guarded = [
            t for t in tokenizer.special_tokens if t.kind == "user_defined" and is_guarded(t.text, template_source)
        ]
        self._special = _Finder([*guarded, *control])
        self._guarded = _Finder(guarded)
        # A SentencePiece vocabulary may put a space before every text it is given, also before the rest of a cut one.
        self._adds_space = tokenizer.tokenize("a") != tokenizer.tokenize("\na")[-1:]
        self._newline = tokenizer.tokenize("\n")

    def encode(self, segments: Iterable[Segment]) -> list[int]:
        """The ids of a rendered prompt, with the vocabulary's BOS in front where it wants one and none is there.

        Control tokens, and user-defined ones that look like markup, arise from trusted text only, where they lie in it
        wholly. All text between two of them is tokenized in one piece, across the borders of segments.
        """
        text, spans = _flatten(segments)
        ids: list[int] = []
        position = 0
        strip = False
        for start, end, token in self._specials_in(text, spans):
            ids += self._encode_gap(text[position:start], lstrip=strip, rstrip=token.lstrip)
            ids.append(token.id)
            position, strip = end, token.rstrip
        ids += self._encode_gap(text[position:], lstrip=strip, rstrip=False)
        bos = self.tokenizer.bos
        if self.tokenizer.add_bos and bos is not None and ids[:1] != [bos]:
            ids.insert(0, bos)
        return ids

    def _specials_in(self, text: str, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int, SpecialToken]]:
        for start, end in spans:
            yield from self._special.find(text, start, end)

    def _encode_gap(self, text: str, *, lstrip: bool, rstrip: bool) -> list[int]:
        """Ids of text that holds no control token, whatever it looks like."""
        text = text.lstrip(_SPACES) if lstrip else text
        text = text.rstrip(_SPACES) if rstrip else text
        ids: list[int] = []
        position = 0
        for start, _, _ in self._guarded.find(text, 0, len(text), overlapping=True):
            # llama.cpp matches user-defined tokens in any text: cut such a one apart behind its first character.
            ids += self._tokenize(text[position : start + 1], is_rest=position > 0)
            position = start + 1
        return ids + self._tokenize(text[position:], is_rest=position > 0)

    def _tokenize(self, text: str, *, is_rest: bool) -> list[int]:
        if not text:
            return []
        if not (is_rest and self._adds_space):
            return self.tokenizer.tokenize(text)
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
