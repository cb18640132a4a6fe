"""Tiny GGUF models that carry a draft head of their own ("nextn" layers), one for each kind of memory.

Heads of random weights guess at random. Two others make plain what a head is given: one that `repeats` looks at the
model's hidden state only, in which the last token chosen is the likeliest, and so guesses that token over and over; one
that `agrees` looks at the token only and belongs to a model that does the same, and so is always right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np

from tests.tiny_models import (
    HEAD_DIM,
    NUM_CTX,
    NUM_EMBD,
    NUM_EXPERTS,
    NUM_EXPERTS_USED,
    NUM_FF,
    NUM_FF_EXPERT,
    NUM_HEADS,
    NUM_KV_HEADS,
    WINDOW,
    Tensors,
    _add_attention,
    _add_vocabulary,
    _Weights,
    vocabulary,
)

NextnKind = Literal["glm4moe", "mimo2", "qwen35", "qwen35moe"]
Head = Literal["random", "repeats", "agrees"]

KINDS: tuple[NextnKind, ...] = ("glm4moe", "mimo2", "qwen35", "qwen35moe")
RECURRENT: tuple[NextnKind, ...] = ("qwen35", "qwen35moe")
NUM_TRUNK = 3
# Of `qwen35` and `qwen35moe`: the last layer attends, the others are recurrent.
NUM_LINEAR_HEADS, LINEAR_HEAD_DIM, CONV = 2, 16, 4


def write_nextn_model(
    path: Path, kind: NextnKind, *, head: Head = "random", seed: int = 0, num_nextn: int = 1, stripped: bool = False
) -> Path:
    """Write a model file. `stripped`: the head's tensors are left out, as in files that were cut down."""
    writer = gguf.GGUFWriter(path, kind)
    writer.add_name(f"tiny {kind} {head} {seed}")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(NUM_CTX)
    writer.add_embedding_length(NUM_EMBD)
    writer.add_block_count(NUM_TRUNK + num_nextn)
    writer.add_nextn_predict_layers(num_nextn)
    writer.add_layer_norm_rms_eps(1e-5)
    _ADD_METADATA[kind](writer, NUM_TRUNK + num_nextn)
    _add_vocabulary(writer, False)
    for name, tensor in nextn_tensors(kind, head, seed, num_nextn).items():
        if not (stripped and int(name.split(".")[1]) >= NUM_TRUNK if name.startswith("blk.") else False):
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def nextn_tensors(kind: NextnKind, head: Head, seed: int, num_nextn: int) -> Tensors:
    """The weights, by name."""
    weights = _Weights(seed)
    num_vocab = len(vocabulary())
    tensors: Tensors = {
        "token_embd.weight": weights.table(num_vocab, NUM_EMBD, gain=1.0),
        "output.weight": weights.matrix(num_vocab, NUM_EMBD, gain=4.0),
        "output_norm.weight": weights.ones(NUM_EMBD),
    }
    for layer in range(NUM_TRUNK + num_nextn):
        is_head = layer >= NUM_TRUNK
        parts = {"attn_norm.weight": weights.ones(NUM_EMBD)} | _LAYERS[kind](weights, layer, is_head)
        if is_head:
            parts |= {
                "nextn.eh_proj.weight": weights.matrix(NUM_EMBD, 2 * NUM_EMBD),
                "nextn.enorm.weight": weights.ones(NUM_EMBD),
                "nextn.hnorm.weight": weights.ones(NUM_EMBD),
                "nextn.shared_head_norm.weight": weights.ones(NUM_EMBD),
            }
        if head == "agrees" or (is_head and head == "repeats"):
            parts = _pass_on(parts)
        if is_head and head != "random":
            parts["nextn.eh_proj.weight"] = _half(of_token=head == "agrees")
        tensors |= {f"blk.{layer}.{name}": tensor for name, tensor in parts.items()}
    return tensors


def _pass_on(parts: Tensors) -> Tensors:
    """A layer that adds nothing to what it gets."""
    silent = (
        "attn_output.weight",
        "ffn_down.weight",
        "ffn_down_exps.weight",
        "ffn_down_shexp.weight",
        "ssm_out.weight",
    )
    return {name: np.zeros_like(tensor) if name in silent else tensor for name, tensor in parts.items()}


def _half(*, of_token: bool) -> Any:
    """Of the token and the hidden state, one as it is."""
    both = np.zeros((NUM_EMBD, 2 * NUM_EMBD), np.float32)
    at = 0 if of_token else NUM_EMBD
    both[:, at : at + NUM_EMBD] = np.eye(NUM_EMBD, dtype=np.float32)
    return both


def _dense(weights: _Weights) -> Tensors:
    return {
        "ffn_gate.weight": weights.matrix(NUM_FF, NUM_EMBD),
        "ffn_up.weight": weights.matrix(NUM_FF, NUM_EMBD),
        "ffn_down.weight": weights.matrix(NUM_EMBD, NUM_FF),
    }


def _glm4moe(weights: _Weights, layer: int, _is_head: bool) -> Tensors:
    num_q, num_kv = NUM_HEADS * HEAD_DIM, NUM_KV_HEADS * HEAD_DIM
    parts = {
        "attn_q.weight": weights.matrix(num_q, NUM_EMBD, gain=2.0),
        "attn_k.weight": weights.matrix(num_kv, NUM_EMBD, gain=2.0),
        "attn_v.weight": weights.matrix(num_kv, NUM_EMBD),
        "attn_output.weight": weights.matrix(NUM_EMBD, num_q),
        "post_attention_norm.weight": weights.ones(NUM_EMBD),
    }
    if layer == 0:
        return parts | _dense(weights)
    return parts | _experts(weights) | {"exp_probs_b.bias": np.zeros(NUM_EXPERTS, np.float32)}


def _experts(weights: _Weights) -> Tensors:
    return {
        "ffn_gate_inp.weight": weights.matrix(NUM_EXPERTS, NUM_EMBD),
        "ffn_gate_exps.weight": weights.matrix(NUM_EXPERTS, NUM_FF_EXPERT, NUM_EMBD),
        "ffn_up_exps.weight": weights.matrix(NUM_EXPERTS, NUM_FF_EXPERT, NUM_EMBD),
        "ffn_down_exps.weight": weights.matrix(NUM_EXPERTS, NUM_EMBD, NUM_FF_EXPERT),
        "ffn_gate_shexp.weight": weights.matrix(NUM_FF_EXPERT, NUM_EMBD),
        "ffn_up_shexp.weight": weights.matrix(NUM_FF_EXPERT, NUM_EMBD),
        "ffn_down_shexp.weight": weights.matrix(NUM_EMBD, NUM_FF_EXPERT),
    }


def _mimo2(weights: _Weights, _layer: int, _is_head: bool) -> Tensors:
    num_q, num_kv = NUM_HEADS * HEAD_DIM, NUM_KV_HEADS * HEAD_DIM
    return _dense(weights) | {
        "ffn_norm.weight": weights.ones(NUM_EMBD),
        "attn_qkv.weight": weights.matrix(num_q + 2 * num_kv, NUM_EMBD, gain=2.0),
        "attn_output.weight": weights.matrix(NUM_EMBD, num_q),
    }


def _qwen35(weights: _Weights, layer: int, is_head: bool) -> Tensors:
    parts = _dense(weights) | {"post_attention_norm.weight": weights.ones(NUM_EMBD)}
    if is_head or layer == NUM_TRUNK - 1:
        num_q, num_kv = NUM_HEADS * HEAD_DIM, NUM_KV_HEADS * HEAD_DIM
        return parts | {
            "attn_q.weight": weights.matrix(2 * num_q, NUM_EMBD, gain=2.0),  # with a gate for each
            "attn_k.weight": weights.matrix(num_kv, NUM_EMBD, gain=2.0),
            "attn_v.weight": weights.matrix(num_kv, NUM_EMBD),
            "attn_output.weight": weights.matrix(NUM_EMBD, num_q),
            "attn_q_norm.weight": 2 * weights.ones(HEAD_DIM),
            "attn_k_norm.weight": 2 * weights.ones(HEAD_DIM),
        }
    inner = NUM_LINEAR_HEADS * LINEAR_HEAD_DIM
    return parts | {
        "attn_qkv.weight": weights.matrix(3 * inner, NUM_EMBD, gain=2.0),
        "attn_gate.weight": weights.matrix(inner, NUM_EMBD),
        "ssm_conv1d.weight": weights.matrix(3 * inner, CONV),
        "ssm_dt.bias": np.zeros(NUM_LINEAR_HEADS, np.float32),
        "ssm_a": np.full(NUM_LINEAR_HEADS, -0.05, np.float32),  # long memory
        "ssm_beta.weight": weights.matrix(NUM_LINEAR_HEADS, NUM_EMBD),
        "ssm_alpha.weight": weights.matrix(NUM_LINEAR_HEADS, NUM_EMBD),
        "ssm_norm.weight": weights.ones(LINEAR_HEAD_DIM),
        "ssm_out.weight": weights.matrix(NUM_EMBD, inner, gain=2.0),
    }


def _qwen35moe(weights: _Weights, layer: int, is_head: bool) -> Tensors:
    parts = {name: part for name, part in _qwen35(weights, layer, is_head).items() if not name.startswith("ffn_")}
    return parts | _experts(weights) | {"ffn_gate_inp_shexp.weight": (weights.ones(NUM_EMBD) / 8).astype(np.float32)}


_LAYERS = {"glm4moe": _glm4moe, "mimo2": _mimo2, "qwen35": _qwen35, "qwen35moe": _qwen35moe}


def _add_glm4moe(writer: gguf.GGUFWriter, _num_layers: int) -> None:
    _add_attention(writer)
    writer.add_leading_dense_block_count(1)
    writer.add_expert_count(NUM_EXPERTS)
    writer.add_expert_used_count(NUM_EXPERTS_USED)
    writer.add_expert_feed_forward_length(NUM_FF_EXPERT)
    writer.add_expert_shared_count(1)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    writer.add_expert_weights_norm(True)
    writer.add_expert_weights_scale(1.0)


def _add_mimo2(writer: gguf.GGUFWriter, num_layers: int) -> None:
    _add_attention(writer)
    writer.add_expert_feed_forward_length(NUM_FF_EXPERT)
    writer.add_sliding_window(WINDOW)
    # The head looks back all the way.
    writer.add_sliding_window_pattern([layer % 2 == 0 and layer < NUM_TRUNK for layer in range(num_layers)])


def _add_qwen35(writer: gguf.GGUFWriter, _num_layers: int) -> None:
    _add_attention(writer)
    writer.add_rope_dimension_sections([4, 4, 4, 4])
    writer.add_full_attention_interval(NUM_TRUNK)
    writer.add_ssm_conv_kernel(CONV)
    writer.add_ssm_inner_size(NUM_LINEAR_HEADS * LINEAR_HEAD_DIM)
    writer.add_ssm_state_size(LINEAR_HEAD_DIM)
    writer.add_ssm_time_step_rank(NUM_LINEAR_HEADS)
    writer.add_ssm_group_count(NUM_LINEAR_HEADS)


def _add_qwen35moe(writer: gguf.GGUFWriter, num_layers: int) -> None:
    _add_qwen35(writer, num_layers)
    writer.add_expert_count(NUM_EXPERTS)
    writer.add_expert_used_count(NUM_EXPERTS_USED)
    writer.add_expert_feed_forward_length(NUM_FF_EXPERT)
    writer.add_expert_shared_feed_forward_length(NUM_FF_EXPERT)


_ADD_METADATA = {
    "glm4moe": _add_glm4moe,
    "mimo2": _add_mimo2,
    "qwen35": _add_qwen35,
    "qwen35moe": _add_qwen35moe,
}
