"""Vocab: text to token ids and back, over one loaded model. Safe to use from several threads: it only reads."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from localllm.binding import C
from localllm.engine.infill import InfillTokens
from localllm.errors import InvalidRequestError
from localllm.text.tokens import SpecialToken, TokenKind
from localllm.text.wordpiece import WordPiece

# A BPE or SPM tokenizer needs time and memory that grow with the text; a context of any size is full long before.
MAX_TEXT_BYTES = 64 * 2**20

UNKNOWN_WORD = "[UNK]"


class Vocab:
    """The vocabulary of a model: ids 0 to `num_tokens - 1`."""

    def __init__(self, model: Any) -> None:
        self._vocab = C.llama_model_get_vocab(model)
        self.num_tokens: int = C.llama_vocab_n_tokens(self._vocab)
        self.bos: int | None = _id(C.llama_vocab_bos(self._vocab))
        self.eos: int | None = _id(C.llama_vocab_eos(self._vocab))
        self.add_bos: bool = C.llama_vocab_get_add_bos(self._vocab)
        self.add_eos: bool = C.llama_vocab_get_add_eos(self._vocab)
        self.sep: int | None = _id(C.llama_vocab_sep(self._vocab))
        self.add_sep: bool = C.llama_vocab_get_add_sep(self._vocab)
        self.is_wordpiece: bool = C.llama_vocab_type(self._vocab) == C.LLAMA_VOCAB_TYPE_WPM
        self._model = model
        self._pieces: dict[int, bytes] = {}

    @functools.cached_property
    def infill(self) -> InfillTokens | None:
        """The tokens for filling in text; None where it lacks one of them."""
        before, after, middle = (
            _id(getattr(C, f"llama_vocab_fim_{part}")(self._vocab)) for part in ("pre", "suf", "mid")
        )
        if before is None or after is None or middle is None:
            return None
        return InfillTokens(before, after, middle, self.bos if self.add_bos else None)

    @property
    def handle(self) -> Any:
        """llama.cpp's own pointer."""
        return self._vocab

    def tokenize(self, text: str, parse_special: bool = False) -> list[int]:
        """Token ids of `text`, without BOS or EOS. Special-token text becomes its id only with `parse_special`."""
        if not text:
            return []
        raw = text.encode("utf-8", "replace")
        if len(raw) > MAX_TEXT_BYTES:
            raise InvalidRequestError(f"a text of {len(raw)} bytes", hint=f"at most {MAX_TEXT_BYTES} bytes")
        if self.is_wordpiece and not parse_special:
            return self._wordpiece.tokenize(text)
        size = len(raw) + 8
        tokens = (C.llama_token * size)()
        count = C.llama_tokenize(self._vocab, raw, len(raw), tokens, size, False, parse_special)
        if count < 0:
            size = -count
            tokens = (C.llama_token * size)()
            count = C.llama_tokenize(self._vocab, raw, len(raw), tokens, size, False, parse_special)
        if count < 0:
            raise InvalidRequestError("this text cannot be tokenized", num_bytes=len(raw))
        return list(tokens[:count])

    def text_of(self, token: int) -> str:
        """The text of a token, special ones as they are written in templates."""
        return self._piece(token, True).decode("utf-8", "replace")

    def piece(self, token: int, special: bool = False) -> bytes:
        """The bytes a token stands for; control tokens give none unless `special`."""
        key = token if special else ~token
        piece = self._pieces.get(key)
        if piece is None:
            piece = self._pieces[key] = self._piece(token, special)
        return piece

    def raw_piece(self, token: int) -> bytes:
        """As `piece` with `special`, for those who want every token once: not kept."""
        return self._piece(token, True)

    def _piece(self, token: int, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        count = C.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        if count < 0:
            buffer = ctypes.create_string_buffer(-count)
            count = C.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[: max(count, 0)]

    def detokenize(self, tokens: list[int], special: bool = False) -> str:
        """The text of several tokens; bytes that are no UTF-8 become U+FFFD."""
        self.check(tokens)
        return b"".join(self.piece(token, special) for token in tokens).decode("utf-8", "replace")

    def ends(self, token: int) -> bool:
        """Whether a token ends the generation."""
        return bool(C.llama_vocab_is_eog(self._vocab, token))

    @functools.cached_property
    def _wordpiece(self) -> WordPiece:
        control = {token.id for token in self.special_tokens}
        texts = ((C.llama_vocab_get_text(self._vocab, token), token) for token in range(self.num_tokens))
        pieces = ((text.decode("utf-8", "replace"), token) for text, token in texts if token not in control)
        return WordPiece(
            pieces,
            next((token.id for token in self.special_tokens if token.kind == "unknown"), 0),
            lowercase=self._flag("tokenizer.ggml.normalizer.lowercase"),
            strip_accents=self._flag("tokenizer.ggml.normalizer.strip_accents"),
        )

    def _flag(self, key: str) -> bool:
        """A flag of the file's metadata; what is missing is set."""
        buffer = ctypes.create_string_buffer(8)
        length = C.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return length < 0 or buffer.value == b"true"

    @functools.cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """Every token that ends the generation. Kept: asking for each of 49,000 tokens took 36 ms."""
        return tuple(token for token in range(self.num_tokens) if self.ends(token))

    @functools.cached_property
    def special_tokens(self) -> list[SpecialToken]:
        """Every control, unknown and user-defined token."""
        attribute, vocab = C.llama_vocab_get_attr, self._vocab
        special = C.LLAMA_TOKEN_ATTR_CONTROL | C.LLAMA_TOKEN_ATTR_UNKNOWN | C.LLAMA_TOKEN_ATTR_USER_DEFINED
        found = ((token, attribute(vocab, token)) for token in range(self.num_tokens))
        return [self._special(token, bits) for token, bits in found if bits & special]

    def _special(self, token: int, bits: int) -> SpecialToken:
        text = C.llama_vocab_get_text(self._vocab, token).decode("utf-8", "replace")
        return SpecialToken(
            token,
            text,
            # Files of BERT models call it a control token; but it is what words without pieces become.
            "unknown" if self.is_wordpiece and text == UNKNOWN_WORD else _kind(bits),
            lstrip=bool(bits & C.LLAMA_TOKEN_ATTR_LSTRIP),
            rstrip=bool(bits & C.LLAMA_TOKEN_ATTR_RSTRIP),
        )

    def check(self, tokens: list[int] | tuple[int, ...]) -> None:
        """Raise InvalidRequestError for an id outside the vocabulary: llama.cpp would abort."""
        for token in tokens:
            if not 0 <= token < self.num_tokens:
                hint = f"this model's ids are 0 to {self.num_tokens - 1}"
                raise InvalidRequestError(f"token id {token} does not exist", hint=hint)


def _kind(bits: int) -> TokenKind:
    if bits & C.LLAMA_TOKEN_ATTR_CONTROL:
        return "control"
    return "unknown" if bits & C.LLAMA_TOKEN_ATTR_UNKNOWN else "user_defined"


def _id(token: int) -> int | None:
    return None if token < 0 else token
