"""The GGUF format itself: header, metadata and tensor directory, each number checked against the file before use.

The limits are those of llama.cpp where it has them (dimensions, name length, contiguous tensors), far above any real
model elsewhere. Knows nothing of architectures or models.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from localllm.errors import GGUFError
from localllm.store.gguf_cursor import Cursor
from localllm.store.gguf_types import ARRAY, REMOVED_TENSOR_TYPES, SCALARS, STRING, TENSOR_TYPES, UINT32
from localllm.store.sniff import describe_other_format

MAX_KEYS = 65_536
MAX_TENSORS = 100_000
MAX_ARRAY = 4_194_304
_MAX_DIMS = 4
_MAX_KEY_BYTES = 65_535
_MAX_TENSOR_NAME_BYTES = 63
_SMALL_ARRAY = 1024
_FORMAT_HINT = "localllm runs GGUF files; look for a repository or file with GGUF in its name"


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


def read_header(cursor: Cursor) -> tuple[int, int, int]:
    """Version, number of tensors, number of metadata keys."""
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


def read_metadata(
    cursor: Cursor, num_keys: int, *, arrays: bool, kinds: dict[str, int] | None = None
) -> dict[str, Any]:
    """All keys and values; a long array as ArrayInfo unless `arrays`. `kinds` takes in each key's type number."""
    metadata: dict[str, Any] = {}
    kinds = {} if kinds is None else kinds
    for _ in range(num_keys):
        at = cursor.pos
        key = cursor.string("a metadata key", _MAX_KEY_BYTES).decode("utf-8", "replace")
        if not key or key in metadata:
            raise cursor.fail(f"the metadata key {key!r} comes twice" if key else "an empty metadata key", at=at)
        cursor.keep(len(key))
        kind = cursor.number("I", f"the type of {key}")
        kinds[key] = kind
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
            return read_elements(cursor, kind, length, key)
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


def read_elements(cursor: Cursor, kind: int, length: int, key: str) -> tuple[Any, ...]:
    """The elements of an array from the cursor on; `key` is for messages."""
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


def read_tensors(cursor: Cursor, num_tensors: int, alignment: int) -> tuple[tuple[TensorInfo, ...], int]:
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
