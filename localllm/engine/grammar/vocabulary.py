"""A model's vocabulary as llguidance wants it: the bytes of each token, which are special, and a tokenizer for text.

Special tokens (control, end of generation, user-defined ones that look like markup) never match text: a grammar that
asks for "<|im_end|>" gets it spelled out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from localllm.engine.grammar.limits import refuse
from localllm.engine.vocab import Vocab
from localllm.text.tokens import is_guarded

_SPECIAL_MARK = 0xFF
Encode = Callable[[str], list[int]]


def llguidance_tokenizer(vocab: Vocab, encode: Encode) -> Any:
    """An LLTokenizer of the vocabulary. `encode` makes ids of text, none of them special, as it stands in a prompt."""
    import llguidance

    ends = list(vocab.end_tokens)
    if not ends:
        refuse("this model has no end-of-text token", hint="constraints need one")
    wrapper: Any = _Wrapper(vocab, encode, ends)
    return llguidance.LLTokenizer(wrapper, eos_token=ends)


class _Wrapper:
    """What llguidance looks for in a tokenizer that is not its own."""

    is_tokenizer_wrapper = True

    def __init__(self, vocab: Vocab, encode: Encode, ends: list[int]) -> None:
        special = {
            token.id for token in vocab.special_tokens if token.kind != "user_defined" or is_guarded(token.text, "")
        }
        self.tokens = [_text_bytes(vocab, token, token in special) for token in range(vocab.num_tokens)]
        self.special_token_ids = sorted(special.union(ends))
        self.eos_token_id = ends[0]
        self.bos_token_id = vocab.bos
        self._encode = encode
        # A SentencePiece vocabulary puts a space before a text. Forced text goes on where other text ended.
        self._adds_space = encode("a") != encode("\na")[-1:]
        self._newline = encode("\n")

    def __call__(self, text: str) -> list[int]:
        if not self._adds_space:
            return self._encode(text)
        ids = self._encode("\n" + text)
        size = len(self._newline)
        return ids[size:] if ids[:size] == self._newline else self._encode(text)


def _text_bytes(vocab: Vocab, token: int, is_special: bool) -> bytes:
    """A token's bytes. Text tokens that begin like llguidance's mark of special ones are no UTF-8: never wanted."""
    piece = vocab.raw_piece(token)
    return b"" if not is_special and piece[:1] == bytes([_SPECIAL_MARK]) else piece
