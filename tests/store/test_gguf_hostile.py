"""GGUF files made to harm, cut short, or that are something else: refused fast, in little memory, with a reason."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from localllm.errors import GGUFError
from localllm.store.gguf import gguf_summary, read_gguf, read_gguf_from
from tests.store.tiny_gguf import write_tiny_gguf

U64_MAX = 2**64 - 1


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def header(num_tensors: int = 0, num_keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_keys)


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def tensor(
    name: bytes = b"w", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0, num_dims: int | None = None
) -> bytes:
    dims = struct.pack("<I", len(shape) if num_dims is None else num_dims) + struct.pack(f"<{len(shape)}Q", *shape)
    return string(name) + dims + struct.pack("<IQ", kind, offset)


def padded(data: bytes, size: int = 4096) -> bytes:
    return data + bytes(max(0, size - len(data)))


ALIGN = b"general.alignment"
CASES: dict[str, bytes] = {
    "tensor offset past the end": padded(header(1) + tensor(offset=2**40)),
    "tensor offset near 2^64": padded(header(1) + tensor(offset=U64_MAX - 31)),
    "tensor size past the end": padded(header(1) + tensor(shape=(2**30,))),
    "shape product overflows 64 bits": padded(header(1) + tensor(shape=(2**32, 2**32, 2**32, 32))),
    "shape product overflows to zero": padded(header(1) + tensor(shape=(2**16, 2**16, 2**16, 2**16))),
    "dimension of 2^63": padded(header(1) + tensor(shape=(2**63,))),
    "dimension of zero": padded(header(1) + tensor(shape=(32, 0))),
    "five dimensions": padded(header(1) + tensor(shape=(1, 1, 1, 1, 1))),
    "2^32-1 dimensions": padded(header(1) + tensor(num_dims=2**32 - 1)),
    "2^63 tensors": padded(header(2**63)),
    "2^64-1 tensors": padded(header(U64_MAX)),
    "more tensors than the file can hold": padded(header(5000)),
    "2^63 keys": padded(header(0, 2**63)),
    "more keys than the file can hold": padded(header(0, 60_000)),
    "key of 2^40 bytes": padded(header(0, 1) + struct.pack("<Q", 2**40)),
    "key of 2^64-1 bytes": padded(header(0, 1) + struct.pack("<Q", U64_MAX)),
    "empty key": padded(header(0, 1) + pair(b"", 4, bytes(4))),
    "string of 2^40 bytes": padded(header(0, 1) + pair(b"k", 8, struct.pack("<Q", 2**40))),
    "array of 2^40 numbers": padded(header(0, 1) + pair(b"k", 9, struct.pack("<IQ", 4, 2**40))),
    "array of 2^64-1 bytes": padded(header(0, 1) + pair(b"k", 9, struct.pack("<IQ", 0, U64_MAX))),
    "array of 2^40 strings": padded(header(0, 1) + pair(b"k", 9, struct.pack("<IQ", 8, 2**40))),
    "array of strings that run past the end": padded(
        header(0, 1) + pair(b"k", 9, struct.pack("<IQ", 8, 2000)) + struct.pack("<Q", 2**62), 40_000
    ),
    "array of strings, one of 2^64-1": padded(
        header(0, 1) + pair(b"k", 9, struct.pack("<IQ", 8, 2000)) + struct.pack("<Q", U64_MAX), 40_000
    ),
    "array in an array": padded(header(0, 1) + pair(b"k", 9, struct.pack("<IQ", 9, 1))),
    "array in an array, a thousand deep": header(0, 1) + pair(b"k", 9, struct.pack("<IQ", 9, 1) * 1000),
    "value type 13": padded(header(0, 1) + pair(b"k", 13, bytes(8))),
    "value type 2^32-1": padded(header(0, 1) + pair(b"k", 2**32 - 1, bytes(8))),
    "element type 99": padded(header(0, 1) + pair(b"k", 9, struct.pack("<IQ", 99, 1))),
    "duplicate key": padded(header(0, 2) + pair(b"k", 4, bytes(4)) * 2),
    "duplicate tensor": padded(header(2) + tensor() + tensor(offset=128)),
    "tensor name of 64 bytes": padded(header(1) + tensor(name=b"n" * 64)),
    "tensor name of 2^40 bytes": padded(header(1) + struct.pack("<Q", 2**40)),
    "tensor type 4, withdrawn": padded(header(1) + tensor(kind=4)),
    "tensor type 99": padded(header(1) + tensor(kind=99)),
    "tensor type 2^32-1": padded(header(1) + tensor(kind=2**32 - 1)),
    "row no multiple of the block": padded(header(1) + tensor(shape=(33,), kind=2)),
    "tensors overlap": padded(header(2) + tensor() + tensor(name=b"v", offset=64)),
    "gap between tensors": padded(header(2) + tensor() + tensor(name=b"v", offset=256)),
    "offset not aligned": padded(header(2) + tensor(shape=(1,)) + tensor(name=b"v", shape=(1,), offset=4)),
    "alignment 0": padded(header(0, 1) + pair(ALIGN, 4, struct.pack("<I", 0))),
    "alignment 3": padded(header(0, 1) + pair(ALIGN, 4, struct.pack("<I", 3))),
    "alignment 2^31 with a tensor": padded(header(1, 1) + pair(ALIGN, 4, struct.pack("<I", 2**31)) + tensor()),
    "alignment of the wrong type": padded(header(0, 1) + pair(ALIGN, 10, struct.pack("<Q", 32))),
    "alignment a string": padded(header(0, 1) + pair(ALIGN, 8, string(b"32"))),
    "version 0": padded(header(version=0)),
    "version 1": padded(header(version=1)),
    "version 4": padded(header(version=4)),
    "version 99": padded(header(version=99)),
    "version 2^32-1": padded(header(version=2**32 - 1)),
    "version byte-swapped": padded(b"GGUF" + struct.pack(">IQQ", 3, 0, 0)),
}


def refuse(path: Path) -> GGUFError:
    """Read the file; it must be refused within 200 ms and 64 MiB."""
    started = time.perf_counter()
    with pytest.raises(GGUFError) as caught:
        read_gguf(path)
    took_s = time.perf_counter() - started
    assert took_s < 0.2
    tracemalloc.start()
    try:
        with pytest.raises(GGUFError):
            read_gguf(path, arrays=True)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("name", CASES)
def test_hostile_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(CASES[name])
    refuse(path)
    with pytest.raises(GGUFError):
        gguf_summary(path)


def test_the_builder_itself_makes_sound_files(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    keys = pair(b"a", 9, struct.pack("<IQ", 8, 2) + string(b"x") + string(b"y")) + pair(ALIGN, 4, struct.pack("<I", 64))
    path.write_bytes(padded(header(2, 2) + keys + tensor() + tensor(name=b"v", offset=128)))
    assert [t.name for t in read_gguf(path).tensors] == ["w", "v"]
    path.write_bytes(header())
    assert read_gguf(path).tensors == ()


class InMemory:
    """A ByteSource over bytes."""

    name = "memory"

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read_at(self, offset: int, n: int) -> bytes:
        return self.data[offset : offset + n]


def test_truncation_at_every_byte_of_the_header_is_refused(tmp_path: Path) -> None:
    whole = write_tiny_gguf(tmp_path / "whole.gguf")
    data = whole.read_bytes()
    end = read_gguf(whole).data_offset + read_gguf(whole).tensors[-1].offset + read_gguf(whole).tensors[-1].size_bytes
    for length in range(end):
        with pytest.raises(GGUFError):
            read_gguf_from(InMemory(data[:length]))
    assert read_gguf_from(InMemory(data[:end])).num_params == 256


def test_every_byte_flipped_is_read_or_refused(tmp_path: Path) -> None:
    whole = write_tiny_gguf(tmp_path / "whole.gguf")
    data, end = bytearray(whole.read_bytes()), read_gguf(whole).data_offset
    for position in range(end):
        for bit in (0, 7):
            data[position] ^= 1 << bit
            with contextlib.suppress(GGUFError):
                read_gguf_from(InMemory(bytes(data)))
            data[position] ^= 1 << bit


def test_a_big_endian_file_is_named_so(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "big.gguf", big_endian=True)
    assert "big-endian" in str(refuse(path))


def test_too_much_metadata_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    value = string(b"x" * (15 << 20))
    path.write_bytes(header(0, 3) + b"".join(pair(b"k%d" % i, 8, value) for i in range(3)))
    with pytest.raises(GGUFError, match="32 MiB"):
        read_gguf(path)


def test_a_string_over_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(header(0, 1) + pair(b"k", 8, string(bytes(17 << 20))))
    refuse(path)


def test_bad_utf8_is_read_with_replacement(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(header(0, 1) + pair(b"k", 8, string(b"\xff\xfe")))
    assert read_gguf(path).metadata["k"] == "��"


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return eval, ("1/0",)


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(Bomb()))
    return buffer.getvalue()


OTHERS: dict[str, tuple[bytes, str]] = {
    "pickle": (pickle.dumps(Bomb()), "pickle"),
    "torch zip": (_zip(), "zip"),
    "safetensors": (struct.pack("<Q", 20) + b'{"__metadata__": {}}' + bytes(100), "safetensors"),
    "login page": (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
    "html with space before": (b"\n  <html lang=en>", "web page"),
    "error as JSON": (b'{"error": "Repository not found"}', "JSON"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS pointer"),
    "zeros": (bytes(4096), "zero bytes"),
    "empty": (b"", "empty"),
    "ggml of old": (b"tjgg" + bytes(100), "old GGML"),
    "gzip": (b"\x1f\x8b\x08" + bytes(50), "gzip"),
    "program": (b"\x7fELF" + bytes(50), "program"),
    "anything else": (b"hello, world", "unknown"),
    "three bytes": (b"GGU", "ends inside"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_format_under_the_name_gguf_is_named(tmp_path: Path, name: str) -> None:
    data, said = OTHERS[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    assert said in str(refuse(path))


def test_a_directory_and_a_missing_file_are_errors_of_the_tree(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match="no such file"):
        read_gguf(tmp_path / "none.gguf")
    with pytest.raises(GGUFError, match=r"regular file|is a directory|permission"):
        read_gguf(tmp_path)
