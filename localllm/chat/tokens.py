"""Segments to token ids. Owns which text may become a control token; never looks at messages or templates' logic.

Only a template's own text can yield a control token. Everything else is tokenized as the characters it is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

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
