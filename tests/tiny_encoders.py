"""Tiny models that rank, with random weights: a BERT cross-encoder, and the Qwen3 kind that answers yes or no.

The cross-encoder comes with a forward pass in numpy, so that what llama.cpp computes has something to agree with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from localllm.text.rerank import QWEN3_RERANK
from tests.tiny_models import byte_letters

Array = npt.NDArray[np.float32]
Tensors = dict[str, Array]

NUM_EMBD, NUM_HEADS, NUM_FF, NUM_LAYERS, NUM_CTX = 64, 2, 128, 3, 256
EPS = 1e-12
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
WORDS = (*SPECIALS, *("\u2581" + letter for letter in LETTERS), *LETTERS)
CLS, SEP = WORDS.index("[CLS]"), WORDS.index("[SEP]")


def words_of(text: str) -> list[int]:
    """Token ids of lower-case text in the cross-encoder's vocabulary, which has letters only."""
    pieces = [("" if at else "\u2581") + char for word in text.split() for at, char in enumerate(word)]
    return [WORDS.index(piece) for piece in pieces]


def cross_encoder_tensors(seed: int = 0, num_ctx: int = NUM_CTX) -> Tensors:
    """Weights of the cross-encoder, by name."""
    rng = np.random.default_rng(seed)

    def matrix(*shape: int, gain: float = 1.0) -> Array:
        return (rng.standard_normal(shape) * gain / math.sqrt(shape[-1])).astype(np.float32)

    def vector(size: int, around: float = 0.0) -> Array:
        return (around + 0.1 * rng.standard_normal(size)).astype(np.float32)

    tensors: Tensors = {
        "token_embd.weight": matrix(len(WORDS), NUM_EMBD, gain=8.0),
        "position_embd.weight": matrix(num_ctx, NUM_EMBD, gain=4.0),
        "token_types.weight": matrix(2, NUM_EMBD, gain=4.0),
        "token_embd_norm.weight": vector(NUM_EMBD, 1.0),
        "token_embd_norm.bias": vector(NUM_EMBD),
        "cls.weight": matrix(NUM_EMBD, NUM_EMBD, gain=2.0),
        "cls.bias": vector(NUM_EMBD),
        "cls.output.weight": matrix(1, NUM_EMBD),
        "cls.output.bias": vector(1),
    }
    for layer in range(NUM_LAYERS):
        at = f"blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors |= {f"{at}{name}.weight": matrix(NUM_EMBD, NUM_EMBD), f"{at}{name}.bias": vector(NUM_EMBD)}
        tensors |= {f"{at}ffn_up.weight": matrix(NUM_FF, NUM_EMBD), f"{at}ffn_up.bias": vector(NUM_FF)}
        tensors |= {f"{at}ffn_down.weight": matrix(NUM_EMBD, NUM_FF), f"{at}ffn_down.bias": vector(NUM_EMBD)}
        for name in ("attn_output_norm", "layer_output_norm"):
            tensors |= {f"{at}{name}.weight": vector(NUM_EMBD, 1.0), f"{at}{name}.bias": vector(NUM_EMBD)}
    return tensors


def write_cross_encoder(path: Path, seed: int = 0, *, num_ctx: int = NUM_CTX) -> Path:
    """Write the cross-encoder."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny cross-encoder")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(num_ctx)
    writer.add_embedding_length(NUM_EMBD)
    writer.add_block_count(NUM_LAYERS)
    writer.add_feed_forward_length(NUM_FF)
    writer.add_head_count(NUM_HEADS)
    writer.add_layer_norm_eps(EPS)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    writer.add_token_type_count(2)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(list(WORDS))
    kinds = [gguf.TokenType.CONTROL] * len(SPECIALS) + [gguf.TokenType.NORMAL] * (len(WORDS) - len(SPECIALS))
    writer.add_token_types(kinds)
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(CLS)
    writer.add_eos_token_id(SEP)
    writer.add_sep_token_id(SEP)
    writer.add_mask_token_id(4)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_add_sep_token(False)
    return _write(writer, path, cross_encoder_tensors(seed, num_ctx))


def cross_encoder_score(tensors: Tensors, query: str, document: str) -> float:
    """The score of a pair, computed in numpy: [CLS] query [SEP] document [SEP], first token, tanh, projection."""
    tokens = [CLS, *words_of(query), SEP, *words_of(document), SEP]
    hidden = _bert(tensors, tokens)[0]
    pooled = np.tanh(hidden @ tensors["cls.weight"].T + tensors["cls.bias"])
    return float((pooled @ tensors["cls.output.weight"].T + tensors["cls.output.bias"])[0])


def _bert(tensors: Tensors, tokens: Sequence[int]) -> npt.NDArray[np.float64]:
    """The last layer's vectors of all tokens, as BERT's paper has them."""

    def linear(values: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
        return values @ tensors[f"{name}.weight"].T.astype(np.float64) + tensors[f"{name}.bias"]

    def norm(values: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
        centred = values - values.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS)
        normed: npt.NDArray[np.float64] = scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]
        return normed

    table = tensors["token_embd.weight"][list(tokens)].astype(np.float64)
    hidden = table + tensors["position_embd.weight"][: len(tokens)] + tensors["token_types.weight"][0]
    hidden = norm(hidden, "token_embd_norm")
    for layer in range(NUM_LAYERS):
        at = f"blk.{layer}."
        heads = [
            linear(hidden, at + name).reshape(len(tokens), NUM_HEADS, -1).swapaxes(0, 1)
            for name in ("attn_q", "attn_k", "attn_v")
        ]
        weights = np.exp(heads[0] @ heads[1].swapaxes(1, 2) / math.sqrt(NUM_EMBD // NUM_HEADS))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ heads[2]
        attended = linear(mixed.swapaxes(0, 1).reshape(len(tokens), NUM_EMBD), at + "attn_output")
        hidden = norm(hidden + attended, at + "attn_output_norm")
        up = linear(hidden, at + "ffn_up")
        # The tanh form of GELU, which llama.cpp computes.
        up = 0.5 * up * (1 + np.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
        hidden = norm(hidden + linear(up, at + "ffn_down"), at + "layer_output_norm")
    return hidden


def write_qwen3_reranker(path: Path, *, pools: bool, seed: int = 0) -> Path:
    """Write a reranker that answers yes or no: with those two rows as a classifier (`pools`), or as a language model.

    Both have the same weights, so they must give the same probabilities.
    """
    merges = ("y e", "ye s", "n o")
    control = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    words = [*byte_letters(), *(merge.replace(" ", "") for merge in merges), *control]
    rng = np.random.default_rng(seed)
    heads, head, ff = 2, 32, 96

    def matrix(*shape: int, gain: float = 1.0) -> Array:
        return (rng.standard_normal(shape) * gain / math.sqrt(shape[-1])).astype(np.float32)

    tensors: Tensors = {"token_embd.weight": matrix(len(words), NUM_EMBD, gain=6.0)}
    tensors["output_norm.weight"] = np.ones(NUM_EMBD, np.float32)
    for layer in range(NUM_LAYERS):
        at = f"blk.{layer}."
        tensors |= {f"{at}{name}_norm.weight": np.ones(NUM_EMBD, np.float32) for name in ("attn", "ffn")}
        tensors |= {f"{at}attn_{name}_norm.weight": 2 * np.ones(head, np.float32) for name in "qk"}
        tensors |= {f"{at}attn_q.weight": matrix(heads * head, NUM_EMBD)}
        tensors |= {f"{at}attn_{name}.weight": matrix(head, NUM_EMBD) for name in "kv"}
        tensors |= {f"{at}attn_output.weight": matrix(NUM_EMBD, heads * head)}
        tensors |= {f"{at}ffn_{name}.weight": matrix(ff, NUM_EMBD) for name in ("gate", "up")}
        tensors |= {f"{at}ffn_down.weight": matrix(NUM_EMBD, ff)}

    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_name("tiny Qwen3-Reranker")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(2048)
    writer.add_embedding_length(NUM_EMBD)
    writer.add_block_count(NUM_LAYERS)
    writer.add_feed_forward_length(ff)
    writer.add_head_count(heads)
    writer.add_head_count_kv(1)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(words)
    normal = len(words) - len(control)
    writer.add_token_types([gguf.TokenType.NORMAL] * normal + [gguf.TokenType.CONTROL] * len(control))
    writer.add_token_merges(list(merges))
    writer.add_eos_token_id(words.index("<|im_end|>"))
    writer.add_pad_token_id(words.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    if pools:
        writer.add_pooling_type(gguf.PoolingType.RANK)
        writer.add_classifier_output_labels(["yes", "no"])
        writer.add_chat_template([{"name": "rerank", "template": QWEN3_RERANK}])
        rows = [words.index("yes"), words.index("no")]
        tensors["cls.output.weight"] = tensors["token_embd.weight"][rows]
    return _write(writer, path, tensors)


def _write(writer: gguf.GGUFWriter, path: Path, tensors: Tensors) -> Path:
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
