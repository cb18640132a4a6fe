"""Tiny real GGUF files for tests, written by the `gguf` package (our reader shares no code with it)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

TEMPLATE = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"


def write_tiny_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    seed: int = 0,
    num_tensors: int = 2,
    tokens: int = 8,
    template: str | None = TEMPLATE,
    alignment: int | None = None,
    big_endian: bool = False,
    **metadata: Any,
) -> Path:
    """Write a sound file of a few kilobytes. `seed` varies its bytes; `metadata` adds keys (`__` stands for a dot)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    endian = gguf.GGUFEndian.BIG if big_endian else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, architecture, endianess=endian)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    writer.add_name(f"tiny {seed}")
    writer.add_file_type(0)
    writer.add_license("mit")
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{i}" for i in range(tokens)])
    if template is not None:
        writer.add_chat_template(template)
    for key, value in metadata.items():
        _add(writer, key.replace("__", "."), value)
    rng = np.random.default_rng(seed)
    for i in range(num_tensors):
        writer.add_tensor(f"blk.{i}.weight", rng.random((4, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_tiny_shards(directory: Path, stem: str, total: int) -> list[Path]:
    """Write a model of `total` files; the first one carries the metadata, as llama-gguf-split leaves it."""
    paths = []
    for number in range(1, total + 1):
        path = directory / f"{stem}-{number:05d}-of-{total:05d}.gguf"
        split: dict[str, Any] = {"split__no": number - 1, "split__count": total, "split__tensors__count": 2 * total}
        paths.append(write_tiny_gguf(path, seed=number, **split))
    return paths


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
