"""Small real vocabularies, written as GGUF and loaded by llama.cpp itself: the oracle of these tests."""

from __future__ import annotations

import ctypes
from pathlib import Path

import gguf

from localllm.binding import C as llama_cpp
from localllm.text.template import SpecialToken
from localllm.text.tokens import TokenKind

CONTROL = gguf.TokenType.CONTROL
USER_DEFINED = gguf.TokenType.USER_DEFINED

Specials = dict[str, gguf.TokenType]


class LlamaVocab:
    """A vocabulary loaded without weights. Satisfies Tokenizer; `reference` is llama.cpp's own parse_special."""

    def __init__(self, path: Path) -> None:
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        assert self.model, path
        self._vocab = llama_cpp.llama_model_get_vocab(self.model)
        bos = llama_cpp.llama_vocab_bos(self._vocab)
        self.bos = bos if bos >= 0 else None
        self.add_bos = bool(llama_cpp.llama_vocab_get_add_bos(self._vocab))
        self.special_tokens = [token for i in range(self.num_tokens) if (token := self._special(i)) is not None]

    @property
    def num_tokens(self) -> int:
        return int(llama_cpp.llama_vocab_n_tokens(self._vocab))

    def tokenize(self, text: str) -> list[int]:
        return self._tokenize(text, parse_special=False)

    def reference(self, text: str) -> list[int]:
        """What llama.cpp makes of a plain prompt whose markup counts wherever it comes from."""
        return self._tokenize(text, parse_special=True)

    def text(self, token: int) -> str:
        return bytes(llama_cpp.llama_vocab_get_text(self._vocab, token)).decode()

    def id(self, text: str) -> int:
        return next(i for i in range(self.num_tokens) if self.text(i) == text)

    def detokenize(self, tokens: list[int]) -> str:
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        buffer = ctypes.create_string_buffer(64 * len(tokens) + 64)
        size = llama_cpp.llama_detokenize(self._vocab, array, len(tokens), buffer, len(buffer), False, True)
        assert size >= 0
        return buffer.raw[:size].decode()

    def close(self) -> None:
        llama_cpp.llama_model_free(self.model)

    def _tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        data = text.encode()
        buffer = (llama_cpp.llama_token * (len(data) + 8))()
        size = llama_cpp.llama_tokenize(self._vocab, data, len(data), buffer, len(buffer), False, parse_special)
        assert size >= 0
        return list(buffer[:size])

    def _special(self, token: int) -> SpecialToken | None:
        attributes = llama_cpp.llama_vocab_get_attr(self._vocab, token)
        kinds: tuple[tuple[int, TokenKind], ...] = (
            (llama_cpp.LLAMA_TOKEN_ATTR_CONTROL, "control"),
            (llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN, "unknown"),
            (llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED, "user_defined"),
        )
        for bit, kind in kinds:
            if attributes & bit:
                lstrip = bool(attributes & llama_cpp.LLAMA_TOKEN_ATTR_LSTRIP)
                rstrip = bool(attributes & llama_cpp.LLAMA_TOKEN_ATTR_RSTRIP)
                return SpecialToken(token, self.text(token), kind, lstrip, rstrip)
        return None


def write_bpe(path: Path, specials: Specials, *, pre: str, bos: str | None = None, name: str = "tiny") -> None:
    """A byte-level BPE vocabulary: 256 bytes, a few merges, the special tokens."""
    merges = ["u s", "us e", "use r", "Ġ t", "h e", "Ġt he", "l l", "he ll", "hell o", "Ċ Ċ", "t h", "th i", "thi n"]
    tokens = [_byte_char(byte) for byte in range(256)] + [merge.replace(" ", "") for merge in merges]
    types = [gguf.TokenType.NORMAL] * len(tokens)
    writer = _writer(path, name, "gpt2")
    writer.add_tokenizer_pre(pre)
    _finish(writer, tokens, types, specials, bos, merges=merges)


def write_spm(path: Path, specials: Specials, *, add_space_prefix: bool = True, name: str = "tiny") -> None:
    """A SentencePiece vocabulary: <unk> <s> </s>, 256 bytes, letters and a few pieces, the special tokens."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    types = [gguf.TokenType.UNKNOWN, CONTROL, CONTROL] + [gguf.TokenType.BYTE] * 256
    # "<s" and "</s" make merges that end at a control token: llama.cpp then yields it from any text.
    pieces = [
        "▁",
        *map(chr, range(33, 127)),
        "▁t",
        "he",
        "▁the",
        "us",
        "er",
        "user",
        "ll",
        "hell",
        "hello",
        "<s",
        "</",
        "</s",
    ]
    writer = _writer(path, name, "llama")
    writer.add_add_space_prefix(add_space_prefix)
    tokens += pieces
    types += [gguf.TokenType.NORMAL] * len(pieces)
    scores = [0.0] * 259 + [-float(index) for index in range(len(pieces))]
    _finish(writer, tokens, types, specials, "<s>", scores=scores)


def _writer(path: Path, name: str, model: str) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_context_length(4096)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(model)
    return writer


def _finish(
    writer: gguf.GGUFWriter,
    tokens: list[str],
    types: list[gguf.TokenType],
    specials: Specials,
    bos: str | None,
    *,
    merges: list[str] | None = None,
    scores: list[float] | None = None,
) -> None:
    tokens = [*tokens, *specials]
    writer.add_token_list(tokens)
    writer.add_token_types([*types, *specials.values()])
    if merges is not None:
        writer.add_token_merges(merges)
    if scores is not None:
        writer.add_token_scores([*scores, *[0.0] * len(specials)])
    eos = next((token for token in ("</s>", "<eos>", "<|im_end|>", "<|eot_id|>") if token in tokens), tokens[-1])
    writer.add_eos_token_id(tokens.index(eos))
    if bos is not None:
        writer.add_bos_token_id(tokens.index(bos))
    writer.add_add_bos_token(bos is not None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _byte_char(byte: int) -> str:
    """GPT-2's printable stand-in for a byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    if byte in printable:
        return chr(byte)
    return chr(256 + [b for b in range(256) if b not in printable].index(byte))
