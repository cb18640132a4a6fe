"""The shape of a model and what follows from it in bytes: KV cells, recurrent state, scratch. Pure integers.

Owns `ModelFacts` and how a GGUF header's keys become one. Knows no device and decides nothing; `memory.py` does.

Sizes are llama.cpp's own where they follow from the shape. Scratch is an estimate: for smollm2:135m the formula gives
the 21.5 MiB that llama.cpp reports at 8,192 cells and 512 tokens a step, and an eighth is added for other graphs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from localllm.errors import InvalidRequestError

MAX_UBATCH = 512


class KVType(NamedTuple):
    """A type of cache: ggml's number of it, and the bytes and elements of its blocks."""

    number: int
    block_bytes: int
    block: int


KV_TYPES: dict[str, KVType] = {
    "f32": KVType(0, 4, 1),
    "f16": KVType(1, 2, 1),
    "bf16": KVType(30, 2, 1),
    "q8_0": KVType(8, 34, 32),
    "q5_1": KVType(7, 24, 32),
    "q5_0": KVType(6, 22, 32),
    "q4_1": KVType(3, 20, 32),
    "q4_0": KVType(2, 18, 32),
    "iq4_nl": KVType(20, 18, 32),
}


def kv_type_named(name: str, param: str | None = None) -> KVType:
    """The cache type of that name. Raises InvalidRequestError, which names `param` as what was wrong."""
    if name not in KV_TYPES:
        raise InvalidRequestError(f"{name} is no cache type", hint=f"one of {', '.join(KV_TYPES)}", param=param)
    return KV_TYPES[name]


# Of every so many layers one looks back all the way, the others only a window: where the file gives no pattern.
_SLIDING_PERIOD = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4, "exaone4": 4, "olmo2": 4}
# What a model is loaded for.
Task = Literal["generate", "embed", "rerank"]

# Architectures that read a text as a whole, without a cache: every token of one pass sees all others.
ENCODERS = frozenset(
    {"bert", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert", "nomic-bert"}
    | {"nomic-bert-moe", "t5encoder"}
)
# Architectures that write by diffusion, not token after token.
DIFFUSION = frozenset({"dream", "llada", "llada-moe", "rnd1"})


class Nextn(NamedTuple):
    """What an architecture's draft layer has to have: llama.cpp aborts where it has not. `many`: or more than one."""

    needs: tuple[str, ...]
    many: bool = False


# Architectures whose own draft layers llama.cpp can run, and leaves out unless they are asked for.
NEXTN: dict[str, Nextn] = {
    "glm4moe": Nextn(("nextn.eh_proj", "nextn.enorm", "nextn.hnorm", "ffn_gate_inp")),
    "qwen35": Nextn(("nextn.eh_proj", "nextn.enorm", "nextn.hnorm")),
    "qwen35moe": Nextn(("nextn.eh_proj", "nextn.enorm", "nextn.hnorm", "ffn_gate_inp")),
    "mimo2": Nextn(("nextn.eh_proj", "nextn.enorm", "nextn.hnorm", "attn_qkv", "ffn_gate", "ffn_up", "ffn_down"), True),
}
_POOLINGS = {1: "mean", 2: "cls", 3: "last", 4: "rank"}  # llama.cpp's numbers
_LAYER = re.compile(r"blk\.(\d+)\.")


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a GGUF header says that matters for memory.

    `layer_bytes` are the weights of each layer, `input_bytes` the embedding table (it stays in main memory),
    `output_bytes` what an accelerator needs to make logits. `num_heads_kv` is one count or one per layer; 0 marks a
    layer without attention. `num_ff` is the widest feed-forward of one token. `sliding` marks the layers that look back
    only `sliding_window` tokens. `recurrent_bytes` is the state of one sequence over all recurrent layers. `pooling` is
    how vectors of tokens become one of the text, where the file says it; a model that is not `is_causal` takes a text
    in one pass. `is_mla`: keys and values are one compressed thing, so their cache has one type. `nextn_bytes` are the
    weights of layers that are no part of these: those a model drafts for itself with, where llama.cpp can run them;
    `nextn_heads_kv` counts the key/value heads of all of them.
    """

    name: str
    layer_bytes: tuple[int, ...]
    num_ctx_train: int
    num_embd: int
    num_ff: int
    num_vocab: int
    num_heads_kv: int | tuple[int, ...]
    key_length: int
    value_length: int
    input_bytes: int = 0
    output_bytes: int = 0
    sliding_window: int = 0
    sliding: tuple[bool, ...] = ()
    recurrent_bytes: int = 0
    architecture: str = ""
    task: Task = "generate"
    pooling: str | None = None
    is_causal: bool = True
    num_heads: int = 0
    is_mla: bool = False
    nextn_bytes: int = 0
    nextn_heads_kv: int = 0

    @property
    def num_layers(self) -> int:
        """Blocks, without the output."""
        return len(self.layer_bytes)

    @property
    def weight_bytes(self) -> int:
        """All weights."""
        return sum(self.layer_bytes) + self.input_bytes + self.output_bytes


def kv_bytes_per_token(model: ModelFacts, kv_type: str = "f16", kv_type_v: str | None = None) -> int:
    """Bytes that one more token of context takes over all layers, with full-size caches.

    `kv_type` is the keys' type, and the values' too where `kv_type_v` is None.
    """
    return sum(_cell_bytes(model, layer, kv_type, kv_type_v or kv_type) for layer in range(model.num_layers))


def nextn_kv_bytes_per_token(model: ModelFacts, kv_type: str = "f16", kv_type_v: str | None = None) -> int:
    """Bytes that one more token of context takes in the cache of a model's own draft layers."""
    return _heads_bytes(model, model.nextn_heads_kv, kv_type, kv_type_v or kv_type)


def layer_kv_bytes(
    model: ModelFacts,
    layer: int,
    num_cells: int,
    *,
    num_slots: int = 1,
    kv_type: str = "f16",
    kv_type_v: str | None = None,
    swa_full: bool = True,
) -> int:
    """Bytes of one layer's cache; types as in `kv_bytes_per_token`.

    Without `swa_full` a sliding layer keeps its window per slot and one step.
    """
    if not swa_full and model.sliding_window and layer < len(model.sliding) and model.sliding[layer]:
        num_cells = min(num_cells, _pad(model.sliding_window * num_slots + MAX_UBATCH))
    return num_cells * _cell_bytes(model, layer, kv_type, kv_type_v or kv_type)


def compute_bytes(
    model: ModelFacts,
    num_cells: int,
    *,
    num_batch: int,
    num_slots: int,
    num_ubatch: int = MAX_UBATCH,
    flash_attn: bool = True,
) -> int:
    """Estimated scratch of one device for steps of up to `num_batch` tokens that give one output per slot.

    Activations (f32), the attention mask (f16), and the logits twice: in the graph and in the output buffer. A model
    that is not causal makes one step of a whole context. Without `flash_attn` each head's scores (f32) are kept whole.
    """
    ubatch = min(num_batch, num_ubatch) if model.is_causal else max(MAX_UBATCH, num_cells)
    activations = 4 * ubatch * (3 * model.num_ff + 4 * model.num_embd)
    mask = 2 * ubatch * num_cells
    scores = 0 if flash_attn else 4 * ubatch * num_cells * model.num_heads
    num_outputs = 2 * num_slots
    if model.task != "generate":
        # llama.cpp keeps room for the logits of every token that has a vector, and decoders compute them too.
        num_outputs = 2 * ubatch if model.is_causal else ubatch
    logits = 4 * num_outputs * model.num_vocab
    return (activations + mask + scores + logits) * 9 // 8


def model_facts(
    name: str, metadata: Mapping[str, Any], tensors: Iterable[tuple[str, int]], num_vocab: int
) -> ModelFacts:
    """Facts from a GGUF header: its metadata, each tensor's name and bytes, and the size of the vocabulary.

    Keys that are missing read as llama.cpp reads them. An unknown architecture's sliding layers count as full ones, so
    that the plan errs on the safe side.
    """
    arch = metadata.get("general.architecture", "")

    def value(key: str) -> Any:
        return metadata.get(f"{arch}.{key}")

    def count(key: str, default: int = 0) -> int:
        found = value(key)
        found = max(found, default=0) if isinstance(found, tuple) else found
        return found if type(found) is int else default

    task, pooling = _task(arch, metadata, value("pooling_type"))
    num_blocks = count("block_count")
    num_layers = num_blocks - (count("nextn_predict_layers") if arch in NEXTN else 0)
    num_embd = count("embedding_length")
    num_heads = count("attention.head_count", 1)
    head_length = num_embd // max(1, num_heads)
    mla = count("attention.key_length_mla") > 0  # the value is a view of the compressed key
    recurrent, recurrent_bytes = _recurrent(count, num_layers)
    heads_kv = value("attention.head_count_kv")
    if arch in ENCODERS:
        heads_kv = (0,) * num_blocks
    if not isinstance(heads_kv, tuple):
        heads_kv = (count("attention.head_count_kv", num_heads),) * num_blocks
    tensors = list(tensors)
    layers, input_bytes, output_bytes = _weights(tensors, num_blocks)
    layers, nextn = layers[:num_layers], layers[num_layers:]
    has_nextn = _has_nextn(arch, {name for name, _ in tensors}, num_layers, len(nextn))
    return ModelFacts(
        name=name,
        layer_bytes=layers,
        num_ctx_train=count("context_length", 2048),
        num_embd=num_embd,
        num_ff=max(count("feed_forward_length"), count("expert_feed_forward_length") * count("expert_used_count")),
        num_vocab=num_vocab,
        num_heads_kv=tuple(
            0 if layer in recurrent else int(heads_kv[layer]) if layer < len(heads_kv) else 0
            for layer in range(num_layers)
        ),
        key_length=count("attention.key_length", head_length),
        num_heads=num_heads,
        is_mla=mla or arch == "deepseek4",
        value_length=0 if mla else count("attention.value_length", head_length),
        input_bytes=input_bytes,
        output_bytes=output_bytes,
        sliding_window=count("attention.sliding_window"),
        sliding=_sliding(arch, value("attention.sliding_window_pattern"), num_layers),
        recurrent_bytes=recurrent_bytes,
        architecture=arch,
        task=task,
        pooling=pooling,
        nextn_bytes=sum(nextn) if has_nextn else 0,
        nextn_heads_kv=sum(map(int, heads_kv[num_layers:])) if has_nextn else 0,
        is_causal=arch not in ENCODERS and value("attention.causal") is not False,
    )


def _has_nextn(arch: str, names: set[str], layer: int, num_nextn: int) -> bool:
    """Can llama.cpp run the draft layers from `layer` on? Files that were cut down name them and do not have them."""
    if num_nextn == 0 or (num_nextn > 1 and not NEXTN[arch].many):
        return False
    return all(f"blk.{layer}.{name}.weight" in names for name in NEXTN[arch].needs)


def _task(arch: str, metadata: Mapping[str, Any], pooling_type: Any) -> tuple[Task, str | None]:
    """What a model is for, and its pooling: what the file says, else what its architecture and name tell."""
    pooling = _POOLINGS.get(pooling_type) if type(pooling_type) is int else None
    if pooling == "rank":
        return "rerank", pooling
    if pooling is not None or arch in ENCODERS:
        return "embed", pooling
    name = str(metadata.get("general.name", "")) + str(metadata.get("general.basename", ""))
    # Rerankers of this family that were converted as plain language models answer "yes" or "no".
    if arch in ("qwen3", "qwen3vl") and "rerank" in name.lower():
        return "rerank", None
    return "generate", None


def _cell_bytes(model: ModelFacts, layer: int, kv_type_k: str, kv_type_v: str) -> int:
    """Keys and values of one token, each in whole blocks of its type."""
    heads = model.num_heads_kv if isinstance(model.num_heads_kv, int) else model.num_heads_kv[layer]
    return _heads_bytes(model, heads, kv_type_k, kv_type_v)


def _heads_bytes(model: ModelFacts, heads: int, kv_type_k: str, kv_type_v: str) -> int:
    found = 0
    for length, kv_type in ((model.key_length, kv_type_k), (model.value_length, kv_type_v)):
        of = kv_type_named(kv_type)
        found += -(-heads * length // of.block) * of.block_bytes
    return found


def _pad(num_cells: int, step: int = 256) -> int:
    return num_cells + -num_cells % step


def _sliding(arch: str, pattern: Any, num_layers: int) -> tuple[bool, ...]:
    """Which layers slide: the file's own list, or all but the last of every period."""
    if isinstance(pattern, tuple) and len(pattern) >= num_layers:
        return tuple(bool(flag) for flag in pattern[:num_layers])
    period = pattern if type(pattern) is int and pattern > 0 else _SLIDING_PERIOD.get(arch, 1)
    return tuple(layer % period < period - 1 for layer in range(num_layers))


def _recurrent(count: Any, num_layers: int) -> tuple[frozenset[int], int]:
    """Recurrent layers, where an interval says so, and the f32 state of one sequence over them.

    Hybrids without an interval mark their recurrent layers by zero key/value heads; their state is then counted for
    every layer, which is too much rather than too little.
    """
    inner, state, conv = count("ssm.inner_size"), count("ssm.state_size"), count("ssm.conv_kernel")
    if not inner:
        return frozenset(), 0
    interval = count("full_attention_interval")
    layers = frozenset(n for n in range(num_layers) if interval and (n + 1) % interval)
    per_layer = 4 * (max(0, conv - 1) * (inner + 2 * count("ssm.group_count") * state) + state * inner)
    return layers, per_layer * (len(layers) or num_layers)


def _weights(tensors: Iterable[tuple[str, int]], num_layers: int) -> tuple[tuple[int, ...], int, int]:
    """Bytes of each layer, of the embedding table, and of the output (the table again where the two are tied)."""
    layers = [0] * num_layers
    input_bytes = output_bytes = 0
    tied = True
    for name, size in tensors:
        found = _LAYER.match(name)
        if found and int(found[1]) < num_layers:
            layers[int(found[1])] += size
        elif name.startswith("token_embd."):
            input_bytes += size
        else:
            output_bytes += size
            tied = tied and name != "output.weight"
    return tuple(layers), input_bytes, output_bytes + (input_bytes if tied else 0)
