"""Reading GGUF files without believing them: metadata, tensor directory, and what follows from both.

Every count, length and offset is checked against the file before it is used; nothing native sees the file. Large arrays
(the vocabulary) are passed over unless asked for. Writes nothing and loads no tensor.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from localllm.errors import GGUFError
from localllm.store.gguf_cursor import ByteSource, Cursor, FileSource
from localllm.store.gguf_parse import ArrayInfo, TensorInfo, read_elements, read_header, read_metadata, read_tensors
from localllm.store.gguf_types import EMBEDDING_ARCHITECTURES, FILE_TYPES

_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf\Z", re.DOTALL)


class GGUF(msgspec.Struct, frozen=True):
    """What a GGUF file says of itself. Facts that are missing or of the wrong type read as None.

    `kinds` are the type numbers of the metadata's values.
    """

    version: int
    metadata: dict[str, Any]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    size_bytes: int
    kinds: dict[str, int] = {}

    def text(self, key: str) -> str | None:
        """A metadata string."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def count(self, key: str) -> int | None:
        """A metadata integer under this architecture's prefix (`llama.`...); of a per-layer list the largest."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, tuple) and value and all(type(v) is int for v in value):
            value = max(value)
        return value if type(value) is int else None

    @property
    def architecture(self) -> str | None:
        """llama, qwen3, bert, ..."""
        return self.text("general.architecture")

    @property
    def chat_template(self) -> str | None:
        """The Jinja text, untrusted."""
        return self.text("tokenizer.chat_template")

    @property
    def licence(self) -> str | None:
        """The licence as its author wrote it, usually an SPDX id."""
        return self.text("general.license") or self.text("general.license.name")

    @property
    def num_ctx_train(self) -> int | None:
        """Tokens of context the model was trained for."""
        return self.count("context_length")

    @property
    def num_embd(self) -> int | None:
        """Length of a token's vector."""
        return self.count("embedding_length")

    @property
    def num_layers(self) -> int | None:
        """Blocks."""
        return self.count("block_count")

    @property
    def num_heads(self) -> int | None:
        """Attention heads."""
        return self.count("attention.head_count")

    @property
    def num_kv_heads(self) -> int | None:
        """Key/value heads; as many as heads where the file does not say."""
        return self.count("attention.head_count_kv") or self.num_heads

    @property
    def key_length(self) -> int | None:
        """Length of one head's key."""
        return self.count("attention.key_length") or self._head_length()

    @property
    def value_length(self) -> int | None:
        """Length of one head's value."""
        return self.count("attention.value_length") or self._head_length()

    @property
    def num_tokens(self) -> int | None:
        """Size of the vocabulary."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, ArrayInfo):
            return tokens.length
        return len(tokens) if isinstance(tokens, tuple) else None

    @property
    def num_params(self) -> int:
        """Elements of all tensors in this file."""
        return sum(tensor.num_elements for tensor in self.tensors)

    @property
    def num_shards(self) -> int:
        """Files this model is split into; 1 where it is not."""
        value = self.metadata.get("split.count")
        return value if type(value) is int and value > 0 else 1

    @property
    def quant(self) -> str | None:
        """Name of the quantization mix; where the file does not say, the type that takes most bytes."""
        named = FILE_TYPES.get(self.metadata.get("general.file_type", -1))
        if named is not None or not self.tensors:
            return named
        by_type: Counter[str] = Counter()
        for tensor in self.tensors:
            by_type[tensor.type] += tensor.size_bytes
        return by_type.most_common(1)[0][0]

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What the file itself shows it can do: chat, tools, thinking, complete, embed, rerank, vision."""
        if self.architecture == "clip":
            return ("vision",)
        pooling = self.count("pooling_type")
        if pooling == 4:
            return ("rerank",)
        if pooling in (1, 2, 3) or self.architecture in EMBEDDING_ARCHITECTURES:
            return ("embed",)
        template = self.chat_template
        if template is None:
            return ("complete",)
        found = ["chat"]
        if re.search(r"\btools\b", template):
            found.append("tools")
        if re.search(r"enable_thinking|reasoning_content|<think>|\bthinking\b", template):
            found.append("thinking")
        return tuple(found)

    def _head_length(self) -> int | None:
        return self.num_embd // self.num_heads if self.num_embd and self.num_heads else None


class GGUFSummary(msgspec.Struct, frozen=True):
    """The facts of a model for its manifest and for listings; of a split model, of all its files together."""

    architecture: str | None
    name: str | None
    num_params: int
    quant: str | None
    num_ctx_train: int | None
    licence: str | None
    capabilities: tuple[str, ...]
    has_chat_template: bool
    num_layers: int | None
    num_tokens: int | None
    size_bytes: int
    num_shards: int


def read_gguf(path: Path, *, arrays: bool = False) -> GGUF:
    """Read a file's metadata and tensor directory; `arrays` keeps large arrays too. Raises GGUFError."""
    with FileSource(path) as source:
        return read_gguf_from(source, arrays=arrays)


def read_gguf_from(source: ByteSource, *, arrays: bool = False) -> GGUF:
    """The same from any ByteSource, such as a remote file read by ranges."""
    cursor = Cursor(source)
    version, num_tensors, num_keys = read_header(cursor)
    kinds: dict[str, int] = {}
    metadata = read_metadata(cursor, num_keys, arrays=arrays, kinds=kinds)
    alignment = metadata.get("general.alignment", 32)
    tensors, used = read_tensors(cursor, num_tensors, alignment)
    data_offset = cursor.pos + -cursor.pos % alignment
    if num_tensors and data_offset + used > source.size:
        raise cursor.fail(f"its tensors end at byte {data_offset + used}, the file at {source.size}")
    return GGUF(version, metadata, tensors, alignment, data_offset, source.size, kinds)


def read_array(path: Path, array: ArrayInfo) -> tuple[Any, ...]:
    """The elements of an array that `read_gguf` passed over (strings as text, bad UTF-8 replaced)."""
    with FileSource(path) as source:
        cursor = Cursor(source)
        cursor.skip(array.offset, "an array")
        return read_elements(cursor, array.type, array.length, "an array")


def gguf_summary(path: Path, *more: Path) -> GGUFSummary:
    """Facts of a model. Of a split model give every file, or any one where they lie under their own names."""
    paths = [path, *more] if more else find_shards(path)
    files = [read_gguf(p) for p in paths]
    first = files[0]
    if first.num_shards != len(files):
        hint = "its files belong together in one directory, named ...-00001-of-0000N.gguf"
        raise GGUFError(f"{path} is one of {first.num_shards} files, {len(files)} are here", hint=hint, path=str(path))
    return GGUFSummary(
        architecture=first.architecture,
        name=first.text("general.name"),
        num_params=sum(file.num_params for file in files),
        quant=first.quant if first.tensors else next((f.quant for f in files if f.tensors), first.quant),
        num_ctx_train=first.num_ctx_train,
        licence=first.licence,
        capabilities=first.capabilities,
        has_chat_template=first.chat_template is not None,
        num_layers=first.num_layers,
        num_tokens=first.num_tokens,
        size_bytes=sum(file.size_bytes for file in files),
        num_shards=len(files),
    )


def find_shards(path: Path) -> list[Path]:
    """All files of the split model that `path` is one of, in order; `[path]` where its name is not of that form.

    Raises GGUFError naming the first that is missing.
    """
    parts = split_name(path.name)
    if parts is None:
        return [path]
    stem, _, total = parts
    paths = []
    for number in range(1, total + 1):
        shard = path.with_name(f"{stem}-{number:05d}-of-{total:05d}.gguf")
        if not shard.exists():
            raise GGUFError(
                f"{shard.name} is missing beside {path.name}", hint="all its files are needed", path=str(path)
            )
        paths.append(shard)
    return paths


def split_name(filename: str) -> tuple[str, int, int] | None:
    """`("model", 2, 5)` for `model-00002-of-00005.gguf`; None for a name not of that form."""
    match = _SHARD.match(filename)
    if match is None:
        return None
    number, total = int(match[2]), int(match[3])
    return (match[1], number, total) if 1 <= number <= total else None
