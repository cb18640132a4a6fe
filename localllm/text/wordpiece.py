"""WordPiece, the tokenizer of BERT models, as Hugging Face's BertNormalizer, BertPreTokenizer and WordPiece define it.

llama.cpp's own one differs: it decomposes no Hangul, drops the vowel signs of Indic scripts, and cuts up words that are
too long to be words, so the same text would get another vector than its model was trained for.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

BEGINS_WORD = "\u2581"  # GGUF marks beginnings of words with this, not their continuations with "##"
MAX_WORD_CHARS = 100
MAX_CACHED_WORDS = 65536

_DROPPED = ("Cc", "Cf", "Co", "Cs")
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


class WordPiece:
    """Words to token ids by the longest piece that fits, again and again; a word with a gap in it is unknown.

    `pieces` are a vocabulary's texts and ids, in GGUF's spelling, without control tokens.
    """

    def __init__(
        self, pieces: Iterable[tuple[str, int]], unknown: int, *, lowercase: bool = True, strip_accents: bool = True
    ) -> None:
        self._ids = dict(pieces)
        self._unknown = unknown
        self._longest = max(map(len, self._ids), default=0)
        self._strip_accents = strip_accents
        self._letters = _Letters(lowercase, strip_accents)
        self._words: dict[str, tuple[int, ...]] = {}

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, without those that open and close it."""
        if self._strip_accents and not text.isascii():
            text = unicodedata.normalize("NFD", text)
        ids: list[int] = []
        for word in text.translate(self._letters).split():
            ids += self._words.get(word) or self._remember(word)
        return ids

    def _remember(self, word: str) -> tuple[int, ...]:
        if len(self._words) >= MAX_CACHED_WORDS:
            self._words.clear()
        ids = self._words[word] = self._cut(word)
        return ids

    def _cut(self, word: str) -> tuple[int, ...]:
        if len(word) > MAX_WORD_CHARS:
            return (self._unknown,)
        ids: list[int] = []
        rest = BEGINS_WORD + word
        while rest:
            for end in range(min(len(rest), self._longest), 0, -1):
                found = self._ids.get(rest[:end])
                # The mark alone is no piece of a word.
                if found is not None and rest[:end] != BEGINS_WORD:
                    ids.append(found)
                    rest = rest[end:]
                    break
            else:
                return (self._unknown,)
        return tuple(ids)


class _Letters(dict[int, str | None]):
    """What each character becomes, for str.translate; filled as characters occur.

    Characters that are words by themselves (punctuation, ideographs) are put between spaces.
    """

    def __init__(self, lowercase: bool, strip_accents: bool) -> None:
        super().__init__()
        self._lowercase = lowercase
        self._strip_accents = strip_accents

    def __missing__(self, code: int) -> str | None:
        value = self[code] = self._become(chr(code))
        return value

    def _become(self, char: str) -> str | None:
        category = unicodedata.category(char)
        if char in "\t\n\r" or category in ("Zs", "Zl", "Zp"):
            return " "
        if category in _DROPPED or char == "\ufffd" or (self._strip_accents and category == "Mn"):
            return None
        if category[0] == "P" or (char.isascii() and category[0] == "S") or _is_ideograph(ord(char)):
            return f" {char} "
        return char.lower() if self._lowercase else char


def _is_ideograph(code: int) -> bool:
    return any(first <= code <= last for first, last in _IDEOGRAPHS)
