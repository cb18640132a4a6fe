"""Reading GGUF files without believing them: metadata, tensor directory, and what follows from both.

Every count, length and offset is checked against the file before it is used; nothing native sees the file. Large arrays
(the vocabulary) are passed over unless asked for. Writes nothing and loads no tensor.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from localllm.errors import GGUFError
from localllm.store.gguf_cursor import ByteSource, Cursor, FileSource
from localllm.store.gguf_types import (
    ARRAY,
    EMBEDDING_ARCHITECTURES,
    FILE_TYPES,
    REMOVED_TENSOR_TYPES,
    SCALARS,
    STRING,
    TENSOR_TYPES,
    UINT32,
)
from localllm.store.sniff import describe_other_format

MAX_KEYS = 65_536
MAX_TENSORS = 100_000
MAX_ARRAY = 4_194_304
_MAX_DIMS = 4
_MAX_KEY_BYTES = 65_535
_MAX_TENSOR_NAME_BYTES = 63
_SMALL_ARRAY = 1024
_FORMAT_HINT = "localllm runs GGUF files; look for a repository or file with GGUF in its name"
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf\Z", re.DOTALL)


class ArrayInfo(msgspec.Struct, frozen=True):
    """A large array that was passed over: its element type number, length and place in the file."""

    type: int
    length: int
    offset: int


class TensorInfo(msgspec.Struct, frozen=True):
    """One tensor. `shape` is in ggml's order (fastest dimension first); `offset` counts from the data section."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size_bytes: int

    @property
    def num_elements(self) -> int:
        """Product of the shape."""
        n = 1
        for dim in self.shape:
            n *= dim
        return n


class GGUF(msgspec.Struct, frozen=True):
    """What a GGUF file says of itself. Facts that are missing or of the wrong type read as None."""

    version: int
    metadata: dict[str, Any]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    size_bytes: int

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
    """Read a file's metadata and tensor directory; `arrays` keeps large arrays too. Raises GGUFError or OSError."""
    with FileSource(path) as source:
        return read_gguf_from(source, arrays=arrays)


def read_gguf_from(source: ByteSource, *, arrays: bool = False) -> GGUF:
    """The same from any ByteSource, such as a remote file read by ranges."""
    cursor = Cursor(source)
    version, num_tensors, num_keys = _read_header(cursor)
    metadata = _read_metadata(cursor, num_keys, arrays=arrays)
    alignment = metadata.get("general.alignment", 32)
    tensors, used = _read_tensors(cursor, num_tensors, alignment)
    data_offset = cursor.pos + -cursor.pos % alignment
    if num_tensors and data_offset + used > source.size:
        raise cursor.fail(f"its tensors end at byte {data_offset + used}, the file at {source.size}")
    return GGUF(version, metadata, tensors, alignment, data_offset, source.size)


def read_array(path: Path, array: ArrayInfo) -> tuple[Any, ...]:
    """The elements of an array that `read_gguf` passed over (strings as text, bad UTF-8 replaced)."""
    with FileSource(path) as source:
        cursor = Cursor(source)
        cursor.skip(array.offset, "an array")
        return _read_elements(cursor, array.type, array.length, "an array")


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


def _read_header(cursor: Cursor) -> tuple[int, int, int]:
    source = cursor.source
    if source.size >= 4 and (magic := cursor.take(4, "the magic number")) != b"GGUF":
        other = describe_other_format(magic + source.read_at(4, min(1020, source.size - 4)), source.size)
        raise GGUFError(f"{source.name} is {other}, not GGUF", hint=_FORMAT_HINT, path=source.name, offset=0)
    if source.size == 0:
        raise GGUFError(
            f"{source.name} is empty", hint="it was never written; get it again", path=source.name, offset=0
        )
    if source.size < 4:
        raise cursor.fail("it ends inside the magic number")
    version = cursor.number("I", "the version")
    if version & 0xFFFF == 0 and version != 0:
        hint = "convert it on a machine of its own byte order, or get a little-endian copy"
        message = f"{source.name} is a big-endian (byte-swapped) GGUF"
        raise GGUFError(message, hint=hint, path=source.name, offset=4)
    if version not in (2, 3):
        hint = "localllm reads versions 2 and 3" if version != 1 else "version 1 is from 2023; get a newer conversion"
        raise GGUFError(f"{source.name} is GGUF version {version}", hint=hint, path=source.name, offset=4)
    num_tensors = _bounded(cursor, "number of tensors", MAX_TENSORS, 24)
    num_keys = _bounded(cursor, "number of metadata keys", MAX_KEYS, 13)
    return version, num_tensors, num_keys


def _bounded(cursor: Cursor, what: str, limit: int, least_bytes: int) -> int:
    """A count that the rest of the file could hold, at `least_bytes` an item."""
    count: int = cursor.number("Q", f"the {what}")
    if count > limit or count * least_bytes > cursor.remaining:
        raise cursor.fail(f"a {what} of {count}")
    return count


def _read_metadata(cursor: Cursor, num_keys: int, *, arrays: bool) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for _ in range(num_keys):
        at = cursor.pos
        key = cursor.string("a metadata key", _MAX_KEY_BYTES).decode("utf-8", "replace")
        if not key or key in metadata:
            raise cursor.fail(f"the metadata key {key!r} comes twice" if key else "an empty metadata key", at=at)
        cursor.keep(len(key))
        kind = cursor.number("I", f"the type of {key}")
        metadata[key] = _read_value(cursor, kind, key, arrays=arrays)
        if key == "general.alignment":
            alignment = metadata[key]
            if kind != UINT32 or alignment == 0 or alignment & (alignment - 1):
                raise cursor.fail(f"an alignment of {alignment!r}", at=at)
    return metadata


def _read_value(cursor: Cursor, kind: int, key: str, *, arrays: bool) -> Any:
    if kind == ARRAY:
        kind = cursor.number("I", f"the element type of {key}")
        length = _bounded(cursor, f"length of {key}", MAX_ARRAY, _least_bytes(cursor, kind, key))
        if arrays or length <= _SMALL_ARRAY:
            return _read_elements(cursor, kind, length, key)
        info = ArrayInfo(kind, length, cursor.pos)
        if kind == STRING:
            cursor.skip_strings(length, key)
        else:
            cursor.skip(length * struct.calcsize(f"<{SCALARS[kind]}"), key)
        return info
    if kind == STRING:
        raw = cursor.string(key)
        cursor.keep(len(raw))
        return raw.decode("utf-8", "replace")
    _least_bytes(cursor, kind, key)
    return cursor.number(SCALARS[kind], key)


def _least_bytes(cursor: Cursor, kind: int, key: str) -> int:
    """Bytes that one value of a type takes at least; refuses types that do not exist (arrays do not nest)."""
    if kind == STRING:
        return 8
    if kind not in SCALARS:
        raise cursor.fail(
            f"{key} is of type {kind}" + (", an array in an array" if kind == ARRAY else ", which is none")
        )
    return struct.calcsize(f"<{SCALARS[kind]}")


def _read_elements(cursor: Cursor, kind: int, length: int, key: str) -> tuple[Any, ...]:
    if kind != STRING:
        code = f"<{length}{SCALARS[kind]}"
        cursor.keep(8 * length)
        return struct.unpack(code, cursor.take(struct.calcsize(code), key))
    found = []
    for _ in range(length):
        raw = cursor.string(key)
        cursor.keep(len(raw) + 8)
        found.append(raw.decode("utf-8", "replace"))
    return tuple(found)


def _read_tensors(cursor: Cursor, num_tensors: int, alignment: int) -> tuple[tuple[TensorInfo, ...], int]:
    """The tensor directory, and the bytes its data section takes (without padding at the end)."""
    tensors: list[TensorInfo] = []
    names: set[str] = set()
    expected = end = 0
    for _ in range(num_tensors):
        at = cursor.pos
        tensor = _read_tensor(cursor)
        if tensor.name in names:
            raise cursor.fail(f"two tensors are called {tensor.name!r}", at=at)
        if tensor.offset != expected:
            raise cursor.fail(f"tensor {tensor.name!r} lies at offset {tensor.offset}, expected {expected}", at=at)
        end = expected + tensor.size_bytes
        if end > cursor.source.size:
            message = f"tensor {tensor.name!r} takes {tensor.size_bytes} bytes from {expected}, more than the file has"
            raise cursor.fail(message, at=at)
        expected = end + -end % alignment
        names.add(tensor.name)
        tensors.append(tensor)
    return tuple(tensors), end


def _read_tensor(cursor: Cursor) -> TensorInfo:
    at = cursor.pos
    name = cursor.string("a tensor name", _MAX_TENSOR_NAME_BYTES).decode("utf-8", "replace")
    num_dims = cursor.number("I", f"the rank of tensor {name!r}")
    if num_dims > _MAX_DIMS:
        raise cursor.fail(f"tensor {name!r} has {num_dims} dimensions", at=at)
    shape = struct.unpack(f"<{num_dims}Q", cursor.take(8 * num_dims, f"the shape of tensor {name!r}"))
    kind = cursor.number("I", f"the type of tensor {name!r}")
    offset = cursor.number("Q", f"the offset of tensor {name!r}")
    if 0 in shape:
        raise cursor.fail(f"tensor {name!r} has no elements, its shape is {shape}", at=at)
    if kind in REMOVED_TENSOR_TYPES:
        raise cursor.fail(f"tensor {name!r} is of type {kind}, which was withdrawn; get a newer conversion", at=at)
    if kind not in TENSOR_TYPES:
        raise cursor.fail(f"tensor {name!r} is of type {kind}, which is none", at=at)
    type_name, block, block_bytes = TENSOR_TYPES[kind]
    if (shape[0] if shape else 1) % block:
        raise cursor.fail(f"tensor {name!r} has rows of {shape[0]}, {type_name} wants multiples of {block}", at=at)
    num_elements = 1
    for dim in shape:
        num_elements *= dim
    return TensorInfo(name, shape, type_name, offset, num_elements // block * block_bytes)
