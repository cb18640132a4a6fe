"""Tiny GGUF models with random weights that llama.cpp loads and decodes: every kind of memory in under a megabyte.

What they say is noise, but always the same noise: weights come from a seed. All share one byte-level
vocabulary, so any text has tokens. They prove bookkeeping (batching, caches, adapters), not language.

Loaded with the options `EXACT`, greedy answers do not depend on the shape of batches: 32,000 tokens without a
difference. An f16 cache and flash attention round by shape, and now and then a token is so close a call.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import numpy.typing as npt

Kind = Literal["llama", "moe", "iswa", "mamba", "hybrid"]
Tensors = dict[str, npt.NDArray[np.float32]]

KINDS: tuple[Kind, ...] = ("llama", "moe", "iswa", "mamba", "hybrid")
ARCHITECTURES: dict[Kind, str] = {
    "llama": "llama",
    "moe": "llama",
    "iswa": "gemma3",
    "mamba": "mamba",
    "hybrid": "lfm2",
}

EXACT: dict[str, Any] = {"kv_type_k": "f32", "kv_type_v": "f32", "flash_attn": False}

NUM_CTX = 4096
NUM_EMBD = 64
NUM_HEADS = 2
NUM_KV_HEADS = 1
HEAD_DIM = 32  # a block of the quantized cache types has 32 values
NUM_FF = 96
NUM_LAYERS = 4
WINDOW = 32  # of `iswa`: every other layer sees this many tokens
NUM_EXPERTS, NUM_EXPERTS_USED = 4, 2
NUM_FF_EXPERT = 32
CONV, STATE, RANK = 4, 8, 4  # of `mamba`
SHORT_CONV = 3  # of `hybrid`

CONTROL = ("<|end|>", "<|im_start|>", "<|im_end|>")
FIM = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
MERGES = ("t h", "th e", "Ġ the")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_letters() -> list[str]:
    """The letter that stands for each byte in a byte-level vocabulary: itself where it prints, else from U+0100 on."""
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256))
    return [chr(byte) if byte in printing else chr(0x100 + next(others)) for byte in range(256)]


def vocabulary(fim: bool = False) -> list[str]:
    """The shared vocabulary: 256 bytes, a few merges, control tokens; with `fim`, those of infilling behind them."""
    return [*byte_letters(), *(merge.replace(" ", "") for merge in MERGES), *CONTROL, *(FIM if fim else ())]


def write_tiny_model(
    path: Path,
    kind: Kind = "llama",
    *,
    seed: int = 0,
    fim: bool = False,
    tensors: Tensors | None = None,
    template: str | None = TEMPLATE,
    **metadata: Any,
) -> Path:
    """Write a model file. `tensors` replaces the weights made from `seed`; `metadata` adds keys (`__` is a dot)."""
    writer = gguf.GGUFWriter(path, ARCHITECTURES[kind])
    writer.add_name(f"tiny {kind} {seed}")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(NUM_CTX)
    writer.add_embedding_length(NUM_EMBD)
    writer.add_block_count(NUM_LAYERS)
    writer.add_layer_norm_rms_eps(1e-5)
    _ADD_METADATA[kind](writer)
    _add_vocabulary(writer, fim)
    if template is not None:
        writer.add_chat_template(template)
    for key, value in metadata.items():
        name = key.replace("__", ".")
        add = {str: writer.add_string, bool: writer.add_bool}.get(type(value), writer.add_uint32)
        add(name, value)
    for name, tensor in (tensors or tiny_tensors(kind, seed, fim=fim)).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tiny_tensors(kind: Kind, seed: int = 0, *, fim: bool = False) -> Tensors:
    """The weights of a kind, by name; numpy's axes, so the last one is llama.cpp's first."""
    weights = _Weights(seed)
    num_vocab = len(vocabulary(fim))
    output_norm = "token_embd_norm" if kind == "hybrid" else "output_norm"
    tensors: Tensors = {
        # gemma multiplies what it looks up with the root of the width.
        "token_embd.weight": weights.table(num_vocab, NUM_EMBD, gain=1 / 8 if kind == "iswa" else 1.0),
        "output.weight": weights.matrix(num_vocab, NUM_EMBD, gain=4.0),
        f"{output_norm}.weight": weights.ones(NUM_EMBD),
    }
    for layer in range(NUM_LAYERS):
        parts = {"attn_norm.weight": weights.ones(NUM_EMBD), **_layer(kind, layer, weights)}
        tensors |= {f"blk.{layer}.{name}": tensor for name, tensor in parts.items()}
    return tensors


class _Weights:
    """Random tensors, scaled so that what goes through them keeps its size."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def matrix(self, *shape: int, gain: float = 1.0) -> npt.NDArray[np.float32]:
        return (self._rng.standard_normal(shape) * gain / math.sqrt(shape[-1])).astype(np.float32)

    def table(self, *shape: int, gain: float) -> npt.NDArray[np.float32]:
        return (self._rng.standard_normal(shape) * gain).astype(np.float32)

    def ones(self, size: int) -> npt.NDArray[np.float32]:
        return np.ones(size, np.float32)


def _layer(kind: Kind, layer: int, weights: _Weights) -> Tensors:
    if kind == "mamba":
        return _mamba(weights)
    if kind == "hybrid" and not _hybrid_attends(layer):
        return _short_conv(weights) | _feed_forward(weights)
    parts = _attention(weights, normed=kind in ("iswa", "hybrid"))
    if kind == "iswa":
        # What attention found counts for more than the token itself.
        parts |= {"post_attention_norm.weight": 2 * weights.ones(NUM_EMBD)}
        parts |= {"post_ffw_norm.weight": weights.ones(NUM_EMBD)}
    return parts | (_experts(weights) if kind == "moe" else _feed_forward(weights))


def _attention(weights: _Weights, *, normed: bool) -> Tensors:
    num_q, num_kv = NUM_HEADS * HEAD_DIM, NUM_KV_HEADS * HEAD_DIM
    norms = {f"attn_{name}_norm.weight": 2 * weights.ones(HEAD_DIM) for name in "qk"} if normed else {}
    return norms | {
        "attn_q.weight": weights.matrix(num_q, NUM_EMBD, gain=2.0),
        "attn_k.weight": weights.matrix(num_kv, NUM_EMBD, gain=2.0),
        "attn_v.weight": weights.matrix(num_kv, NUM_EMBD),
        "attn_output.weight": weights.matrix(NUM_EMBD, num_q),
    }


def _feed_forward(weights: _Weights) -> Tensors:
    return {
        "ffn_norm.weight": weights.ones(NUM_EMBD),
        "ffn_gate.weight": weights.matrix(NUM_FF, NUM_EMBD),
        "ffn_up.weight": weights.matrix(NUM_FF, NUM_EMBD),
        "ffn_down.weight": weights.matrix(NUM_EMBD, NUM_FF),
    }


def _experts(weights: _Weights) -> Tensors:
    return {
        "ffn_norm.weight": weights.ones(NUM_EMBD),
        "ffn_gate_inp.weight": weights.matrix(NUM_EXPERTS, NUM_EMBD),
        "ffn_gate_exps.weight": weights.matrix(NUM_EXPERTS, NUM_FF_EXPERT, NUM_EMBD),
        "ffn_up_exps.weight": weights.matrix(NUM_EXPERTS, NUM_FF_EXPERT, NUM_EMBD),
        "ffn_down_exps.weight": weights.matrix(NUM_EXPERTS, NUM_EMBD, NUM_FF_EXPERT),
    }


def _mamba(weights: _Weights) -> Tensors:
    inner = 2 * NUM_EMBD
    decay = -np.tile(np.arange(1, STATE + 1, dtype=np.float32), (inner, 1))
    return {
        "ssm_in.weight": weights.matrix(2 * inner, NUM_EMBD),
        "ssm_conv1d.weight": weights.matrix(inner, CONV),
        "ssm_conv1d.bias": np.zeros(inner, np.float32),
        "ssm_x.weight": np.concatenate([weights.matrix(RANK, inner), weights.matrix(2 * STATE, inner, gain=8.0)]),
        "ssm_dt.weight": weights.matrix(inner, RANK),
        "ssm_dt.bias": np.full(inner, -4.0, np.float32),  # small steps, long memory
        "ssm_a": decay,
        "ssm_d": weights.ones(inner) / 16,
        "ssm_out.weight": weights.matrix(NUM_EMBD, inner),
    }


def _short_conv(weights: _Weights) -> Tensors:
    return {
        "shortconv.conv.weight": weights.matrix(NUM_EMBD, SHORT_CONV),
        "shortconv.in_proj.weight": weights.matrix(3 * NUM_EMBD, NUM_EMBD),
        "shortconv.out_proj.weight": weights.matrix(NUM_EMBD, NUM_EMBD),
    }


def _hybrid_attends(layer: int) -> bool:
    return layer % 2 == 1


def _add_attention(writer: gguf.GGUFWriter, num_kv_heads: int | list[int] = NUM_KV_HEADS, num_ff: int = NUM_FF) -> None:
    writer.add_feed_forward_length(num_ff)
    writer.add_head_count(NUM_HEADS)
    writer.add_head_count_kv(num_kv_heads)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)


def _add_moe(writer: gguf.GGUFWriter) -> None:
    _add_attention(writer, num_ff=NUM_FF_EXPERT)
    writer.add_expert_count(NUM_EXPERTS)
    writer.add_expert_used_count(NUM_EXPERTS_USED)


def _add_iswa(writer: gguf.GGUFWriter) -> None:
    _add_attention(writer)
    writer.add_sliding_window(WINDOW)
    writer.add_sliding_window_pattern([layer % 2 == 0 for layer in range(NUM_LAYERS)])


def _add_mamba(writer: gguf.GGUFWriter) -> None:
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(CONV)
    writer.add_ssm_inner_size(2 * NUM_EMBD)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(RANK)


def _add_hybrid(writer: gguf.GGUFWriter) -> None:
    _add_attention(writer, [NUM_KV_HEADS if _hybrid_attends(layer) else 0 for layer in range(NUM_LAYERS)])
    writer.add_shortconv_l_cache(SHORT_CONV)


_ADD_METADATA = {
    "llama": _add_attention,
    "moe": _add_moe,
    "iswa": _add_iswa,
    "mamba": _add_mamba,
    "hybrid": _add_hybrid,
}


def _add_vocabulary(writer: gguf.GGUFWriter, fim: bool) -> None:
    tokens = vocabulary(fim)
    special = {*CONTROL, *FIM}
    types = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(tokens.index("<|end|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    if fim:
        writer.add_uint32("tokenizer.ggml.fim_pre_token_id", tokens.index(FIM[0]))
        writer.add_uint32("tokenizer.ggml.fim_suf_token_id", tokens.index(FIM[1]))
        writer.add_uint32("tokenizer.ggml.fim_mid_token_id", tokens.index(FIM[2]))
