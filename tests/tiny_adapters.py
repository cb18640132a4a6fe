"""Tiny LoRA files for the tiny models, and the same change merged into the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from tests.tiny_models import Tensors

Pair = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def random_pairs(
    weights: Tensors, *, seed: int = 0, rank: int = 4, names: tuple[str, ...] = ("attn_q", "ffn_down")
) -> dict[str, Pair]:
    """A and B, in numpy's axes, for all weights whose names contain one of `names`; B @ A is about half of W's size."""
    rng = np.random.default_rng(seed)
    pairs: dict[str, Pair] = {}
    for name, weight in weights.items():
        if any(part in name for part in names):
            size = 0.7 * float(weight.std()) ** 0.5 / rank**0.25
            a = rng.standard_normal((*weight.shape[:-2], rank, weight.shape[-1])) * size
            b = rng.standard_normal((*weight.shape[:-1], rank)) * size
            pairs[name] = a.astype(np.float32), b.astype(np.float32)
    return pairs


def merged(weights: Tensors, pairs: dict[str, Pair], scale: float = 1.0, alpha: float = 0.0) -> Tensors:
    """The weights with the adapter added in, as llama.cpp counts: W + scale * alpha / rank * B A, alpha 0 for none."""
    changed = dict(weights)
    for name, (a, b) in pairs.items():
        factor = scale * alpha / a.shape[-2] if alpha else scale
        changed[name] = (weights[name] + factor * (b @ a)).astype(np.float32)
    return changed


def write_adapter(
    path: Path, pairs: dict[str, Pair], *, architecture: str = "llama", alpha: float = 0.0, **metadata: Any
) -> Path:
    """Write a LoRA file. `metadata` adds keys, or replaces them (`__` is a dot)."""
    writer = gguf.GGUFWriter(path, architecture)
    values: dict[str, Any] = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": alpha}
    values |= {key.replace("__", "."): value for key, value in metadata.items()}
    for key, value in values.items():
        _ADD[type(value)](writer, key, value)
    for name, pair in pairs.items():
        for side, tensor in zip("ab", pair, strict=True):
            writer.add_tensor(f"{name}.lora_{side}", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


_ADD: dict[type, Any] = {
    str: gguf.GGUFWriter.add_string,
    float: gguf.GGUFWriter.add_float32,
    np.float64: gguf.GGUFWriter.add_float64,
    list: gguf.GGUFWriter.add_array,
}
