"""Reading sound GGUF files: facts, arrays, shards, remote sources, speed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gguf
import pytest

from localllm.errors import GGUFError
from localllm.store.gguf import (
    find_shards,
    gguf_summary,
    read_array,
    read_gguf,
    read_gguf_from,
    split_name,
)
from localllm.store.gguf_parse import ArrayInfo
from localllm.store.gguf_types import FILE_TYPES, TENSOR_TYPES
from tests.store.tiny_gguf import TEMPLATE, write_tiny_gguf, write_tiny_shards


def test_facts_of_a_sound_file(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", tokens=20)
    file = read_gguf(path)
    assert (file.version, file.alignment, file.architecture, file.licence) == (3, 32, "llama", "mit")
    assert (file.num_ctx_train, file.num_embd, file.num_layers) == (512, 32, 1)
    assert (file.num_heads, file.num_kv_heads, file.key_length, file.value_length) == (4, 2, 8, 8)
    assert (file.num_tokens, file.num_params, file.quant) == (20, 256, "F32")
    assert file.chat_template == TEMPLATE
    assert file.capabilities == ("chat",)
    assert [t.name for t in file.tensors] == ["blk.0.weight", "blk.1.weight"]
    assert file.tensors[1].shape == (32, 4)
    assert file.tensors[1].size_bytes == 512


def test_agrees_with_the_gguf_package_on_every_tensor(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", num_tensors=7, alignment=64)
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)
    assert ours.alignment == 64
    seen = [(t.name, t.num_elements, t.size_bytes, ours.data_offset + t.offset) for t in ours.tensors]
    assert seen == [(t.name, int(t.n_elements), int(t.n_bytes), int(t.data_offset)) for t in theirs.tensors]


def test_type_tables_agree_with_the_gguf_package() -> None:
    for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
        # Of Q8_1 the package still has the size from before ggml stored the sum in half precision.
        assert TENSOR_TYPES[int(kind)] == (kind.name, block, 36 if kind.name == "Q8_1" else size)
    for file_type in gguf.LlamaFileType:
        if file_type.name != "GUESSED":
            assert FILE_TYPES[int(file_type)] == file_type.name.removeprefix("ALL_").removeprefix("MOSTLY_")


def test_every_value_type_reads(tmp_path: Path) -> None:
    path = tmp_path / "types.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    values: dict[str, tuple[str, int | float | bool]] = {
        "uint8": ("x.u8", 200),
        "int8": ("x.i8", -5),
        "uint16": ("x.u16", 60_000),
        "int16": ("x.i16", -300),
        "uint32": ("x.u32", 4_000_000_000),
        "int32": ("x.i32", -70_000),
        "float32": ("x.f32", 0.5),
        "bool": ("x.b", True),
        "uint64": ("x.u64", 2**63 + 1),
        "int64": ("x.i64", -(2**62)),
        "float64": ("x.f64", 1e300),
    }
    for kind, (key, value) in values.items():
        getattr(writer, f"add_{kind}")(key, value)
    writer.add_array("x.layers", [1, 2, 3])
    writer.add_array("x.words", ["a", "é"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    metadata = read_gguf(path).metadata
    assert {key: metadata[key] for key, _ in values.values()} == dict(values.values())
    assert metadata["x.layers"] == (1, 2, 3)
    assert metadata["x.words"] == ("a", "é")


def test_large_arrays_are_passed_over_and_read_on_demand(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", tokens=3000)
    array = read_gguf(path).metadata["tokenizer.ggml.tokens"]
    assert isinstance(array, ArrayInfo)
    assert array.length == 3000
    assert read_array(path, array)[2999] == "t2999"
    whole = read_gguf(path, arrays=True)
    assert whole.metadata["tokenizer.ggml.tokens"][17] == "t17"
    assert whole.num_tokens == read_gguf(path).num_tokens == 3000


def test_a_per_layer_list_counts_as_its_largest(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", architecture="x", x__lens=[3, 9, 4])
    assert read_gguf(path).count("lens") == 9


def test_a_file_without_file_type_is_named_by_its_tensors(tmp_path: Path) -> None:
    assert read_gguf(write_tiny_gguf(tmp_path / "m.gguf", general__other=1)).quant == "F32"
    path = tmp_path / "n.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    import numpy as np

    writer.add_tensor("a", np.zeros((2, 32), dtype=np.float16))
    writer.add_tensor("b", np.zeros(8, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_gguf(path).quant == "F16"


@pytest.mark.parametrize(
    ("architecture", "extra", "template", "capabilities"),
    [
        ("llama", {}, None, ("complete",)),
        ("qwen3", {}, "{% if tools %}x{% endif %}{% if enable_thinking %}y{% endif %}", ("chat", "tools", "thinking")),
        ("bert", {}, None, ("embed",)),
        ("qwen3", {"qwen3__pooling_type": 3}, TEMPLATE, ("embed",)),
        ("bert", {"bert__pooling_type": 4}, None, ("rerank",)),
        ("clip", {}, None, ("vision",)),
    ],
)
def test_capabilities(
    tmp_path: Path, architecture: str, extra: dict[str, Any], template: str | None, capabilities: tuple[str, ...]
) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", architecture=architecture, template=template, **extra)
    assert read_gguf(path).capabilities == capabilities


def test_a_remote_source_is_read_by_ranges(tmp_path: Path) -> None:
    data = write_tiny_gguf(tmp_path / "m.gguf", tokens=2000).read_bytes()

    class Remote:
        name = "https://host/m.gguf"
        size = len(data) + 10**9  # the weights that a header need not fetch

        def __init__(self) -> None:
            self.asked: list[tuple[int, int]] = []

        def read_at(self, offset: int, n: int) -> bytes:
            self.asked.append((offset, n))
            return data[offset : offset + n]

    remote = Remote()
    found = read_gguf_from(remote)
    assert found.num_tokens == 2000
    assert len(remote.asked) <= 2
    assert found.tensors == read_gguf(tmp_path / "m.gguf").tensors


def test_small_windows_give_the_same_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", tokens=2000)
    whole = read_gguf(path)
    from localllm.store import gguf_cursor

    for window in (1, 7, 64, 1000):
        monkeypatch.setattr(gguf_cursor.Cursor.__init__, "__defaults__", (window,))
        assert read_gguf(path) == whole


def test_split_models(tmp_path: Path) -> None:
    paths = write_tiny_shards(tmp_path, "big", 3)
    assert find_shards(paths[1]) == paths
    summary = gguf_summary(paths[0])
    assert (summary.num_shards, summary.num_params) == (3, 768)
    assert summary.size_bytes == sum(path.stat().st_size for path in paths)
    renamed = [path.rename(tmp_path / f"blob{i}") for i, path in enumerate(paths)]
    assert gguf_summary(*renamed) == summary
    with pytest.raises(GGUFError, match="3 files"):
        gguf_summary(renamed[0])


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    paths = write_tiny_shards(tmp_path, "big", 3)
    paths[2].unlink()
    with pytest.raises(GGUFError, match="big-00003-of-00003"):
        find_shards(paths[0])


def test_split_names() -> None:
    assert split_name("m-00002-of-00005.gguf") == ("m", 2, 5)
    for name in ("m.gguf", "m-00006-of-00005.gguf", "m-00000-of-00005.gguf", "m-2-of-5.gguf", "m-00001-of-00002.bin"):
        assert split_name(name) is None
    assert find_shards(Path("m.gguf")) == [Path("m.gguf")]


@pytest.mark.weights
def test_real_weights_read_fast(smollm2_path: Path) -> None:
    read_gguf(smollm2_path)
    started = time.perf_counter()
    file = read_gguf(smollm2_path)
    took_s = time.perf_counter() - started
    assert took_s < 0.1
    assert (file.num_tokens, file.num_params, file.quant) == (49152, 134_515_008, "Q4_1")
    assert len(file.tensors) == 272
