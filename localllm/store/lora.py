"""LoRA files: is this one, and does it fit a model? Looks at headers only; nothing native sees a file before.

llama.cpp asserts, and so ends its process, where shapes or types surprise it; what it would pass over in silence is
refused here as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from localllm.errors import AdapterError, GGUFError
from localllm.store.gguf import GGUF, read_gguf
from localllm.store.gguf_parse import TensorInfo
from localllm.store.gguf_types import FLOAT32

MAX_RANK = 4096

# What llama.cpp's own converter writes.
_TYPES = frozenset({"F32", "F16", "BF16", "Q8_0"})
_SUFFIXES = (".lora_a", ".lora_b")


def read_lora(path: Path) -> GGUF:
    """The header of a LoRA file. Raises AdapterError where it is none that llama.cpp can apply whole."""
    try:
        file = read_gguf(path)
    except GGUFError as exc:
        raise AdapterError(f"no adapter: {exc.message}", hint=exc.hint, path=str(path)) from exc
    if (kind := file.text("general.type")) != "adapter":
        what = f"a GGUF of type {kind}" if kind else "a GGUF, but says nothing of being an adapter"
        _refuse(path, f"{path.name} is {what}", hint="a LoRA file has general.type = adapter")
    if (kind := file.text("adapter.type")) != "lora":
        _refuse(path, f"{path.name} is an adapter of type {kind}, not lora")
    if file.architecture is None:
        _refuse(path, f"{path.name} does not say which architecture it is for")
    if "adapter.alora.invocation_tokens" in file.metadata:
        _refuse(path, f"{path.name} is an activated LoRA (aLoRA)", hint="only plain LoRA adapters can be applied")
    alpha = file.metadata.get("adapter.lora.alpha", 0.0)
    if file.kinds.get("adapter.lora.alpha", FLOAT32) != FLOAT32 or not abs(alpha) < float("inf"):
        _refuse(path, f"{path.name} has an alpha of {alpha!r}, which is no 32-bit float")
    return file


def check_lora(path: Path, adapter: GGUF, model: Iterable[GGUF]) -> None:
    """Raise AdapterError where an adapter does not fit a model, given as the headers of all its files."""
    files = list(model)
    if adapter.architecture != files[0].architecture:
        _refuse(
            path,
            f"{path.name} is for {adapter.architecture}, the model is {files[0].architecture}",
            hint="an adapter works with the model it was trained on",
        )
    targets = {tensor.name: tensor for file in files for tensor in file.tensors}
    pairs = _pairs(path, adapter)
    if not pairs:
        _refuse(path, f"{path.name} holds no tensors")
    for name, (a, b) in pairs.items():
        target = targets.get(name)
        if target is None:
            _refuse(path, f"{path.name} changes {name}, which the model does not have", hint="is it for another model?")
        if name == "token_embd.weight" and "output.weight" not in targets:
            # llama.cpp would apply the pair to the output too, where its shape is wrong.
            _refuse(path, f"{path.name} changes the embedding table, which is this model's output as well")
        if target.type == "NVFP4":
            _refuse(path, f"{path.name} changes {name}, whose type NVFP4 takes no adapter")
        _check_shapes(path, target, a, b)


def _pairs(path: Path, adapter: GGUF) -> dict[str, tuple[TensorInfo, TensorInfo]]:
    """The two tensors of each weight that an adapter changes."""
    halves: tuple[dict[str, TensorInfo], ...] = ({}, {})
    for tensor in adapter.tensors:
        base, side = tensor.name[:-7], tensor.name[-7:]
        if side not in _SUFFIXES or any(suffix in base for suffix in _SUFFIXES):
            _refuse(path, f"{path.name} holds {tensor.name}, which is no part of a LoRA that llama.cpp applies")
        if tensor.type not in _TYPES:
            _refuse(path, f"{tensor.name} is of type {tensor.type}", hint=f"known are {', '.join(sorted(_TYPES))}")
        halves[_SUFFIXES.index(side)][base] = tensor
    for base in halves[0].keys() ^ halves[1].keys():
        _refuse(path, f"{path.name} holds only one of the two tensors for {base}")
    return {base: (tensor, halves[1][base]) for base, tensor in halves[0].items()}


def _check_shapes(path: Path, target: TensorInfo, a: TensorInfo, b: TensorInfo) -> None:
    """W is [in, out] or, with experts, [in, out, experts]; A is [in, rank], B [rank, out].

    Of the embedding table, W is [width, tokens], A [rank, tokens] and B [rank, width].
    """
    shape, shape_a, shape_b = _shape(target), _shape(a), _shape(b)
    rank = shape_b[0]
    wanted_a: tuple[int, ...]
    wanted_b: tuple[int, ...]
    if target.name == "token_embd.weight":
        wanted_a, wanted_b = (rank, shape[-1]), (rank, shape[0])
    else:
        wanted_a, wanted_b = (shape[0], rank, *shape[2:]), (rank, *shape[1:])
    if len(shape) < 2 or (shape_a, shape_b) != (wanted_a, wanted_b):
        _refuse(
            path,
            f"{path.name} does not fit {target.name}: {shape_a} and {shape_b} for {shape}",
            hint="is it for another size of this model?",
        )
    if rank > MAX_RANK:
        _refuse(path, f"{path.name} has rank {rank} for {target.name}", hint=f"at most {MAX_RANK}")


def _shape(tensor: TensorInfo) -> tuple[int, ...]:
    """A shape without the ones behind it; at least two dimensions where the tensor has them."""
    shape = tensor.shape
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape or (1,)


def _refuse(path: Path, message: str, hint: str | None = None) -> NoReturn:
    raise AdapterError(message, hint=hint, path=str(path))
