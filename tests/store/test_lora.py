"""LoRA files that llama.cpp would assert on, or apply in part, are refused by name; sound ones pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localllm.errors import AdapterError
from localllm.store.gguf import GGUF, read_gguf
from localllm.store.lora import check_lora, read_lora
from tests.tiny_adapters import Pair, random_pairs, write_adapter
from tests.tiny_models import NUM_EMBD, Tensors, tiny_tensors, vocabulary, write_tiny_model

TinyModel = Callable[..., Path]

QUERY = "blk.0.attn_q.weight"


@pytest.fixture(scope="module")
def weights() -> Tensors:
    return tiny_tensors("llama")


@pytest.fixture
def header(tiny_model: TinyModel) -> GGUF:
    return read_gguf(tiny_model())


def check(path: Path, header: GGUF) -> None:
    check_lora(path, read_lora(path), [header])


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize("kind", ["llama", "moe"])
def test_a_sound_adapter_passes(tmp_path: Path, tiny_model: TinyModel, kind: Any) -> None:
    weights = tiny_tensors(kind)
    names = ("attn_", "ffn_up", "ffn_down_exps", "output.weight")
    pairs = {name: pair for name, pair in random_pairs(weights, names=names).items() if "norm" not in name}
    assert len(pairs) > 8
    vectors = zeros(4, NUM_EMBD), zeros(NUM_EMBD, 4)
    # Of the embedding table A and B are the other way round.
    pairs["token_embd.weight"] = zeros(len(vocabulary()), 4), vectors[1]
    check(write_adapter(tmp_path / "a.gguf", pairs, alpha=8.0), read_gguf(tiny_model(kind)))


def test_half_precision_passes(tmp_path: Path, weights: Tensors, header: GGUF) -> None:
    pairs = {name: (a.astype(np.float16), b.astype(np.float16)) for name, (a, b) in random_pairs(weights).items()}
    check(write_adapter(tmp_path / "a.gguf", pairs), header)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"general__type": "model"}, "of type model"),
        ({"adapter__type": "control_vector"}, "type control_vector"),
        ({"architecture": "gemma3"}, "for gemma3, the model is llama"),
        ({"adapter__alora__invocation_tokens": [1, 2]}, "activated"),
        ({"adapter__lora__alpha": np.float64(8)}, "no 32-bit float"),
        ({"adapter__lora__alpha": "8"}, "no 32-bit float"),
        ({"adapter__lora__alpha": float("nan")}, "no 32-bit float"),
    ],
)
def test_what_a_file_says_of_itself(
    tmp_path: Path, weights: Tensors, header: GGUF, metadata: dict[str, Any], says: str
) -> None:
    path = write_adapter(tmp_path / "a.gguf", random_pairs(weights), **metadata)
    with pytest.raises(AdapterError, match=says):
        check(path, header)


@pytest.mark.parametrize(
    ("name", "pair", "says"),
    [
        ("blk.9.attn_q.weight", (zeros(4, 64), zeros(64, 4)), "does not have"),
        (QUERY, (zeros(4, 32), zeros(64, 4)), "does not fit"),
        (QUERY, (zeros(4, 64), zeros(32, 4)), "does not fit"),
        (QUERY, (zeros(4, 64), zeros(64, 5)), "does not fit"),
        (QUERY, (zeros(2, 4, 64), zeros(2, 64, 4)), "does not fit"),
        (QUERY, (zeros(5000, 64), zeros(64, 5000)), "rank 5000"),
        (QUERY, (np.zeros((4, 64), np.int8), zeros(64, 4)), "type I8"),
        ("blk.0.attn_norm.weight", (zeros(4, 64), zeros(64, 4)), "does not fit"),
        ("token_embd.weight", (zeros(4, 64), zeros(len(vocabulary()), 4)), "does not fit"),
        ("blk.0.attn_q.weight.lora_b", (zeros(4, 64), zeros(64, 4)), "no part of a LoRA"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, header: GGUF, name: str, pair: Pair, says: str) -> None:
    with pytest.raises(AdapterError, match=says):
        check(write_adapter(tmp_path / "a.gguf", {name: pair}), header)


def test_a_tied_embedding_table_takes_no_adapter(tmp_path: Path, weights: Tensors) -> None:
    """llama.cpp would look the pair up for the output as well, and assert on its shape."""
    tied = {name: tensor for name, tensor in weights.items() if name != "output.weight"}
    model = write_tiny_model(tmp_path / "tied.gguf", tensors=tied)
    pairs = {"token_embd.weight": (zeros(len(vocabulary()), 4), zeros(NUM_EMBD, 4))}
    with pytest.raises(AdapterError, match="output as well"):
        check(write_adapter(tmp_path / "a.gguf", pairs), read_gguf(model))


def test_tensors_alone_or_of_another_kind(tmp_path: Path, weights: Tensors, header: GGUF) -> None:
    with pytest.raises(AdapterError, match="no tensors"):
        check(write_adapter(tmp_path / "none.gguf", {}), header)
    path = write_adapter(tmp_path / "a.gguf", random_pairs(weights))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"blk.1.attn_q.weight.lora_b", b"blk.1.attn_k.weight.lora_b"))
    with pytest.raises(AdapterError, match="only one of the two"):
        check(path, header)
    path.write_bytes(data.replace(b"blk.1.attn_q.weight.lora_b", b"blk.1.attn_q_norm.weight_b"))
    with pytest.raises(AdapterError, match="no part of a LoRA"):
        check(path, header)


def test_files_that_are_none(tmp_path: Path, tiny_model: TinyModel) -> None:
    with pytest.raises(AdapterError, match=r"cannot read .*gone\.gguf"):
        read_lora(tmp_path / "gone.gguf")
    (tmp_path / "text.gguf").write_text("hello, this is no model")
    with pytest.raises(AdapterError, match="no adapter"):
        read_lora(tmp_path / "text.gguf")
    with pytest.raises(AdapterError, match="adapter"):
        read_lora(tiny_model())
