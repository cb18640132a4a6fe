"""Whether a model fits, for people who have to choose one: `memory.plan` of models that may not be here yet. Pure.

Owns what is assumed of a model of which only its size or its number of parameters is known. Reads no file, no system.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from localllm.api.finder import Fit, Verdict
from localllm.errors import OutOfMemoryError
from localllm.memory import DeviceMemory, LoadPlan
from localllm.model_shape import ModelFacts

# Bits a weight takes in a file, all its tensors together: what llama.cpp's quantizer gives for a model of 8 billion.
_BITS = {
    "Q2_K": 3.16, "IQ2_XXS": 2.38, "IQ2_XS": 2.59, "IQ2_M": 2.94, "IQ3_XXS": 3.25, "IQ3_M": 3.76, "IQ4_XS": 4.46,
    "IQ4_NL": 4.69, "Q3_K_S": 3.64, "Q3_K_M": 4.0, "Q3_K_L": 4.3, "Q4_0": 4.66, "Q4_1": 5.16, "Q4_K": 4.89,
    "Q4_K_S": 4.67, "Q4_K_M": 4.89, "Q4_K_XL": 4.95, "Q5_0": 5.6, "Q5_1": 6.1, "Q5_K_S": 5.57, "Q5_K_M": 5.7,
    "Q6_K": 6.56, "Q8_0": 8.5, "MXFP4": 4.7, "F16": 16.0, "BF16": 16.0, "F32": 32.0,
}  # fmt: skip
_ACTIVE = re.compile(r"(\d+(?:\.\d+)?)([BM]) active of")
_ACTIVE_IN_NAME = re.compile(r"[-:_]a(\d+(?:\.\d+)?)b(?![a-z0-9])", re.IGNORECASE)
_EXPERTS = re.compile(r"\bexperts\b|mixture")


class _Shape(NamedTuple):
    """A usual model of up to so many parameters: those of the Qwen3 and Llama 3 reports."""

    most_params: float
    num_layers: int
    num_embd: int
    num_heads_kv: int
    head_length: int
    num_ff: int


_SHAPES = (
    _Shape(0.25e9, 30, 576, 3, 64, 1536),
    _Shape(0.8e9, 28, 1024, 8, 128, 3072),
    _Shape(2.2e9, 28, 2048, 8, 128, 6144),
    _Shape(5.5e9, 36, 2560, 8, 128, 9728),
    _Shape(11e9, 36, 4096, 8, 128, 12288),
    _Shape(22e9, 40, 5120, 8, 128, 17408),
    _Shape(50e9, 64, 5120, 8, 128, 25600),
    _Shape(float("inf"), 80, 8192, 8, 128, 28672),
)
_NUM_VOCAB = 152_000


def fit_of(
    plan: LoadPlan | OutOfMemoryError,
    num_ctx_train: int,
    devices: Sequence[DeviceMemory],
    basis: Literal["header", "size", "parameters"],
) -> Fit:
    """What the plan of a model, or the error that there is none, says to a person."""
    host = next(device for device in devices if device.is_host)
    if isinstance(plan, OutOfMemoryError):
        needed, available = plan.facts["needed_bytes"], plan.facts["available_bytes"]
        return Fit("too large", needed, available, host.name, 0, num_ctx_train, basis, plan.message)
    # Where layers are, memory is what decides; the host's part of a model that runs elsewhere is small.
    used = [device for device in devices if plan.layers_by_device.get(device.name)]
    kinds = {notice.kind: notice.message for notice in plan.notices}
    verdict: Verdict = "fits"
    if "weights_paged" in kinds:
        verdict = "paged"
    elif plan.num_ctx < num_ctx_train:
        verdict = "reduced"
    why = kinds.get("weights_paged") or kinds.get("cpu_fallback") or kinds.get("partial_offload")
    needed = sum(plan.bytes_by_device[device.name] for device in used)
    available = sum(device.usable_bytes for device in used)
    on = ", ".join(device.name for device in used)
    return Fit(verdict, needed, available, on, plan.num_ctx, num_ctx_train, basis, why)


def file_bytes(num_params: int, quant: str) -> int | None:
    """About how large a file is, by its parameters and quantization; None where the quantization is not known."""
    bits = _BITS.get(quant.upper().removeprefix("UD-"))
    return None if bits is None else int(num_params * bits / 8)


def usual_facts(name: str, num_params: int, size_bytes: int, num_ctx: int, *, is_encoder: bool = False) -> ModelFacts:
    """The shape that a model of so many parameters usually has; its weights spread evenly over the layers."""
    shape = next(shape for shape in _SHAPES if num_params <= shape.most_params)
    return ModelFacts(
        name=name,
        layer_bytes=(size_bytes // shape.num_layers,) * shape.num_layers,
        num_ctx_train=num_ctx,
        num_embd=shape.num_embd,
        num_ff=shape.num_ff,
        num_vocab=_NUM_VOCAB,
        num_heads_kv=0 if is_encoder else shape.num_heads_kv,
        key_length=shape.head_length,
        value_length=shape.head_length,
        task="embed" if is_encoder else "generate",
        is_causal=not is_encoder,
    )


def active_share(num_params: int, words: str, names: Sequence[str]) -> float | None:
    """The share of a model's weights that one token reads: 1.0, less for a mixture of experts, None where unknown.

    `words` describe it ("3B active of 30B"); `names` are its aliases and sources, which may say "30B-A3B".
    """
    if found := _ACTIVE.search(words):
        active = float(found[1]) * {"B": 1e9, "M": 1e6}[found[2]]
    elif in_names := [match for name in names if (match := _ACTIVE_IN_NAME.search(name))]:
        active = float(in_names[0][1]) * 1e9
    else:
        return None if _EXPERTS.search(words) and "dense" not in words else 1.0
    return min(1.0, active / num_params)
