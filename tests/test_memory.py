"""What fits: sizes against llama.cpp's own figures, the context policy, placement on accelerators, eviction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from localllm.api import LoadOptions
from localllm.errors import InvalidRequestError, OutOfMemoryError
from localllm.memory import DeviceMemory, LoadPlan, Resident, plan, which_to_evict
from localllm.model_shape import ModelFacts, compute_bytes, kv_bytes_per_token, layer_kv_bytes, model_facts

MIB, GIB = 2**20, 2**30


def shape(name: str, layers: int, layer_bytes: int, **values: Any) -> ModelFacts:
    return ModelFacts(name=name, layer_bytes=(layer_bytes,) * layers, **values)


SMOLLM2 = shape(
    "smollm2:135m",
    30,
    2_216_514,
    num_ctx_train=8192,
    num_embd=576,
    num_ff=1536,
    num_vocab=49_152,
    num_heads_kv=3,
    key_length=64,
    value_length=64,
    input_bytes=30_081_024,
)
LLAMA3_8B = shape(
    "llama3.1:8b",
    32,
    134_000_000,
    num_ctx_train=131_072,
    num_embd=4096,
    num_ff=14_336,
    num_vocab=128_256,
    num_heads_kv=8,
    key_length=128,
    value_length=128,
    input_bytes=295_000_000,
    output_bytes=431_000_000,
)
GEMMA3_4B = shape(
    "gemma3:4b",
    34,
    54_000_000,
    num_ctx_train=131_072,
    num_embd=2560,
    num_ff=10_240,
    num_vocab=262_144,
    num_heads_kv=4,
    key_length=256,
    value_length=256,
    input_bytes=550_000_000,
    sliding_window=1024,
    sliding=tuple(n % 6 < 5 for n in range(34)),
)
QWEN3_30B = shape(
    "qwen3:30b",
    48,
    378_000_000,
    num_ctx_train=40_960,
    num_embd=2048,
    num_ff=768 * 8,
    num_vocab=151_936,
    num_heads_kv=4,
    key_length=128,
    value_length=128,
    input_bytes=175_000_000,
    output_bytes=255_000_000,
)
MODELS = [SMOLLM2, LLAMA3_8B, GEMMA3_4B, QWEN3_30B]


def cpu(free: int) -> DeviceMemory:
    return DeviceMemory("CPU", free, is_host=True)


def gpu(free: int, name: str = "CUDA0") -> DeviceMemory:
    return DeviceMemory(name, free)


def kinds(found: LoadPlan) -> list[str]:
    return [notice.kind for notice in found.notices]


def test_kv_bytes_per_token() -> None:
    assert kv_bytes_per_token(SMOLLM2) == 23_040
    assert kv_bytes_per_token(LLAMA3_8B) == 131_072
    assert kv_bytes_per_token(GEMMA3_4B) == 139_264
    assert kv_bytes_per_token(QWEN3_30B) == 98_304
    assert kv_bytes_per_token(LLAMA3_8B, "q8_0") == 131_072 * 34 // 64
    assert kv_bytes_per_token(LLAMA3_8B, "f32") == 2 * 131_072
    assert kv_bytes_per_token(LLAMA3_8B, "f16", "q4_0") == 131_072 // 2 + 131_072 // 2 * 18 // 64


def test_the_cache_of_smollm2_is_what_llama_cpp_reports() -> None:
    for cells, mib in ((512, 11.25), (2048, 45), (8192, 180)):
        assert sum(layer_kv_bytes(SMOLLM2, layer, cells) for layer in range(30)) == mib * MIB


@pytest.mark.parametrize(("cells", "batch", "reported_mib"), [(512, 512, 14.01), (8192, 512, 21.51), (8192, 128, 5.38)])
def test_scratch_covers_what_llama_cpp_reports_and_little_more(cells: int, batch: int, reported_mib: float) -> None:
    """Reported by llama.cpp for this model with 4 outputs a step, plus 0.75 MiB of output buffer."""
    reported = (reported_mib + 0.75) * MIB
    assert reported <= compute_bytes(SMOLLM2, cells, num_batch=batch, num_slots=4) <= reported * 1.35


def test_sliding_layers_keep_their_window() -> None:
    def cache(swa_full: bool) -> list[int]:
        return [layer_kv_bytes(GEMMA3_4B, layer, 32_768, swa_full=swa_full) for layer in range(34)]

    assert sum(cache(True)) == 32_768 * 139_264
    per_cell = 4 * 512 * 2
    assert cache(False)[5] == 32_768 * per_cell
    assert cache(False)[0] == 1536 * per_cell
    assert sum(cache(False)) == 5 * 32_768 * per_cell + 29 * 1536 * per_cell
    assert layer_kv_bytes(GEMMA3_4B, 0, 1024, swa_full=False) == 1024 * per_cell


def test_a_small_model_gets_its_own_context() -> None:
    found = plan(SMOLLM2, [cpu(8 * GIB)])
    assert (found.num_ctx, found.num_cells, found.num_slots, found.kv_layout) == (8192, 8192, 8, "unified")
    assert (found.devices, found.num_gpu_layers, found.notices) == ((), 0, ())
    assert found.layers_by_device == {"CPU": 31}
    assert found.bytes_by_device["CPU"] > SMOLLM2.weight_bytes + 180 * MIB


def test_streams_take_cells_for_every_slot() -> None:
    found = plan(SMOLLM2, [cpu(8 * GIB)], LoadOptions(kv_layout="streams", num_slots=3, num_ctx=1000))
    assert found.num_cells == 3 * 1024
    assert found.num_ctx == 1000


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
@pytest.mark.parametrize("gib", [1, 2, 4, 6, 8, 12, 16, 24, 32, 64, 256])
def test_the_default_context_leaves_half_of_what_the_weights_leave(model: ModelFacts, gib: int) -> None:
    host = cpu(gib * GIB)
    found = plan(model, [host])
    left = max(host.usable_bytes - model.weight_bytes, host.usable_bytes // 4)
    used = found.bytes_by_device["CPU"] - model.weight_bytes
    assert 512 <= found.num_ctx <= model.num_ctx_train
    assert used <= left
    assert used * 2 <= left or found.num_ctx == 512
    reduced = found.num_ctx < model.num_ctx_train
    assert ("context_reduced" in kinds(found)) == reduced
    assert ("weights_paged" in kinds(found)) == (host.usable_bytes - model.weight_bytes < host.usable_bytes // 4)
    if reduced:
        more = plan(model, [host], LoadOptions(num_ctx=found.num_ctx + 256)) if used < left // 2 else None
        assert more is None or (more.bytes_by_device["CPU"] - model.weight_bytes) * 2 > left
        notice = next(n for n in found.notices if n.kind == "context_reduced")
        assert notice.facts == {"num_ctx": found.num_ctx, "num_ctx_train": model.num_ctx_train}
        assert str(found.num_ctx) in notice.message


def test_llama_8b_on_a_machine_of_16_gib() -> None:
    found = plan(LLAMA3_8B, [cpu(16 * GIB)])
    assert 32_768 <= found.num_ctx < 65_536
    assert found.num_ctx % 256 == 0


def test_a_named_context_is_never_cut() -> None:
    host = cpu(8 * GIB)
    asked = LoadOptions(num_ctx=65_536)
    with pytest.raises(OutOfMemoryError) as caught:
        plan(LLAMA3_8B, [host], asked)
    facts = caught.value.facts
    assert facts["needed_bytes"] > facts["available_bytes"]
    assert facts["available_bytes"] == host.usable_bytes
    largest = facts["num_ctx_fits"]
    assert str(largest) in (caught.value.hint or "")
    assert plan(LLAMA3_8B, [host], LoadOptions(num_ctx=largest)).num_ctx == largest
    with pytest.raises(OutOfMemoryError):
        plan(LLAMA3_8B, [host], LoadOptions(num_ctx=largest + 256))


def test_a_context_beyond_training_is_said() -> None:
    found = plan(SMOLLM2, [cpu(8 * GIB)], LoadOptions(num_ctx=16_384))
    assert found.num_ctx == 16_384
    assert kinds(found) == ["context_beyond_training"]


def test_weights_that_are_not_mapped_must_fit() -> None:
    with pytest.raises(OutOfMemoryError) as caught:
        plan(QWEN3_30B, [cpu(12 * GIB)], LoadOptions(use_mmap=False))
    assert caught.value.facts["needed_bytes"] == QWEN3_30B.weight_bytes
    assert "17." in caught.value.message
    assert kinds(plan(QWEN3_30B, [cpu(12 * GIB)])) == ["weights_paged", "context_reduced"]


def test_a_machine_too_small_for_512_tokens() -> None:
    with pytest.raises(OutOfMemoryError, match="512"):
        plan(LLAMA3_8B, [cpu(400 * MIB)])


def test_everything_goes_to_a_large_gpu() -> None:
    found = plan(LLAMA3_8B, [cpu(32 * GIB), gpu(24 * GIB)])
    assert found.num_gpu_layers == 33
    assert found.devices == ("CUDA0",)
    assert found.layers_by_device == {"CUDA0": 33}
    assert found.bytes_by_device["CUDA0"] <= 24 * GIB
    assert found.num_ctx > 32_768
    assert found.bytes_by_device["CPU"] < 2 * GIB


def test_a_small_gpu_takes_what_fits() -> None:
    found = plan(QWEN3_30B, [cpu(64 * GIB), gpu(8 * GIB)])
    assert 0 < found.num_gpu_layers < 49
    assert found.num_ctx == 4096
    assert kinds(found) == ["partial_offload", "context_reduced"]
    assert found.bytes_by_device["CUDA0"] <= gpu(8 * GIB).usable_bytes
    assert found.layers_by_device == {"CPU": 49 - found.num_gpu_layers, "CUDA0": found.num_gpu_layers}
    one_more = LoadOptions(num_gpu_layers=found.num_gpu_layers + 1)
    with pytest.raises(OutOfMemoryError) as caught:
        plan(QWEN3_30B, [cpu(64 * GIB), gpu(8 * GIB)], one_more)
    assert caught.value.facts["num_gpu_layers_fit"] == found.num_gpu_layers


def test_two_gpus_are_filled_in_turn() -> None:
    found = plan(QWEN3_30B, [cpu(64 * GIB), gpu(12 * GIB), gpu(16 * GIB, "CUDA1")])
    assert found.num_gpu_layers == 49
    assert found.devices == ("CUDA0", "CUDA1")
    assert sum(found.layers_by_device.values()) == 49
    assert found.bytes_by_device["CUDA0"] <= 12 * GIB
    assert found.bytes_by_device["CUDA1"] <= 16 * GIB


def test_a_gpu_too_small_for_one_layer_falls_back() -> None:
    found = plan(LLAMA3_8B, [cpu(32 * GIB), gpu(200 * MIB)])
    assert kinds(found)[0] == "cpu_fallback"
    assert (found.devices, found.num_gpu_layers) == ((), 0)


def test_all_layers_were_asked_for_and_do_not_fit() -> None:
    with pytest.raises(OutOfMemoryError, match="all layers") as caught:
        plan(LLAMA3_8B, [cpu(32 * GIB), gpu(4 * GIB)], LoadOptions(num_gpu_layers=-1))
    assert 0 < caught.value.facts["num_gpu_layers_fit"] < 33
    assert caught.value.facts["needed_bytes"] > caught.value.facts["available_bytes"]


def test_devices_by_name() -> None:
    both = [cpu(32 * GIB), gpu(24 * GIB), gpu(24 * GIB, "CUDA1")]
    assert plan(LLAMA3_8B, both, LoadOptions(device="cpu")).devices == ()
    assert plan(LLAMA3_8B, both, LoadOptions(device="cuda1")).devices == ("CUDA1",)
    assert plan(LLAMA3_8B, both, LoadOptions(num_gpu_layers=0)).num_gpu_layers == 0
    with pytest.raises(InvalidRequestError) as caught:
        plan(LLAMA3_8B, both, LoadOptions(device="CUDA7"))
    assert "CUDA1" in (caught.value.hint or "")


def test_a_gpu_that_shares_main_memory_counts_once() -> None:
    metal = DeviceMemory("Metal", 12 * GIB, shares_host=True)
    found = plan(LLAMA3_8B, [cpu(14 * GIB), metal])
    assert found.num_gpu_layers == 33
    assert found.needed_bytes == sum(found.bytes_by_device.values()) <= 14 * GIB
    alone = plan(LLAMA3_8B, [cpu(64 * GIB), msgspec.structs.replace(metal, shares_host=False)])
    assert alone.num_ctx >= found.num_ctx


@pytest.mark.parametrize("options", [LoadOptions(num_ctx=0), LoadOptions(num_ctx=-5)])
def test_a_context_that_is_none(options: LoadOptions) -> None:
    with pytest.raises(InvalidRequestError):
        plan(SMOLLM2, [cpu(8 * GIB)], options)


def test_an_unknown_cache_type() -> None:
    with pytest.raises(InvalidRequestError, match="q9"):
        plan(SMOLLM2, [cpu(8 * GIB)], LoadOptions(kv_type_v="q9"))


def test_a_smaller_cache_type_gives_more_context() -> None:
    small = LoadOptions(kv_type_k="q8_0", kv_type_v="q8_0")
    assert plan(LLAMA3_8B, [cpu(12 * GIB)], small).num_ctx > plan(LLAMA3_8B, [cpu(12 * GIB)]).num_ctx
    assert plan(GEMMA3_4B, [cpu(8 * GIB)], swa_full=False).num_ctx > plan(GEMMA3_4B, [cpu(8 * GIB)]).num_ctx


METADATA = {
    "general.architecture": "llama",
    "llama.block_count": 30,
    "llama.context_length": 8192,
    "llama.embedding_length": 576,
    "llama.feed_forward_length": 1536,
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
}


def test_facts_from_a_header() -> None:
    tensors = [
        ("token_embd.weight", 1000),
        ("output_norm.weight", 8),
        *((f"blk.{n}.attn_q.weight", 5) for n in range(30)),
    ]
    facts = model_facts("smollm2:135m", METADATA, tensors, 49_152)
    assert kv_bytes_per_token(facts) == 23_040
    assert (facts.num_layers, facts.num_ctx_train, facts.num_ff) == (30, 8192, 1536)
    assert (facts.input_bytes, facts.output_bytes) == (1000, 1008), "a tied table is loaded again for the output"
    assert facts.weight_bytes == 1000 + 1008 + 150
    untied = model_facts("x", METADATA, [*tensors, ("output.weight", 700)], 49_152)
    assert untied.output_bytes == 708


def test_facts_of_experts_mla_and_hybrids() -> None:
    experts = {
        "general.architecture": "qwen3moe",
        "qwen3moe.block_count": 2,
        "qwen3moe.embedding_length": 2048,
        "qwen3moe.attention.head_count": 32,
        "qwen3moe.attention.head_count_kv": (4, 2),
        "qwen3moe.attention.key_length": 128,
        "qwen3moe.attention.value_length": 128,
        "qwen3moe.feed_forward_length": 6144,
        "qwen3moe.expert_feed_forward_length": 768,
        "qwen3moe.expert_used_count": 8,
    }
    facts = model_facts("m", experts, [], 151_936)
    assert kv_bytes_per_token(facts) == (4 + 2) * 256 * 2
    assert facts.num_ff == 6144
    mla = {
        "general.architecture": "deepseek2",
        "deepseek2.block_count": 27,
        "deepseek2.attention.head_count": 16,
        "deepseek2.attention.head_count_kv": 1,
        "deepseek2.attention.key_length": 576,
        "deepseek2.attention.value_length": 512,
        "deepseek2.attention.key_length_mla": 192,
    }
    assert kv_bytes_per_token(model_facts("m", mla, [], 1)) == 27 * 576 * 2
    hybrid = {
        "general.architecture": "qwen35",
        "qwen35.block_count": 8,
        "qwen35.attention.head_count": 16,
        "qwen35.attention.head_count_kv": 4,
        "qwen35.attention.key_length": 256,
        "qwen35.attention.value_length": 256,
        "qwen35.full_attention_interval": 4,
        "qwen35.ssm.inner_size": 4096,
        "qwen35.ssm.state_size": 128,
        "qwen35.ssm.conv_kernel": 4,
        "qwen35.ssm.group_count": 16,
    }
    facts = model_facts("m", hybrid, [], 1)
    assert facts.num_heads_kv == (0, 0, 0, 4, 0, 0, 0, 4)
    assert facts.recurrent_bytes == 6 * 4 * (3 * (4096 + 2 * 16 * 128) + 128 * 4096)


def test_facts_of_sliding_layers() -> None:
    def sliding(arch: str, pattern: Any = None) -> tuple[bool, ...]:
        metadata = {"general.architecture": arch, f"{arch}.block_count": 6, f"{arch}.attention.sliding_window": 512}
        if pattern is not None:
            metadata[f"{arch}.attention.sliding_window_pattern"] = pattern
        return model_facts("m", metadata, [], 1).sliding

    assert sliding("gemma3") == (True,) * 5 + (False,)
    assert sliding("gemma2") == (True, False) * 3
    assert sliding("spark2_5", (True, True, True, False, True, True)) == (True, True, True, False, True, True)
    assert sliding("unheard-of") == (False,) * 6


@pytest.mark.weights
def test_facts_of_the_real_file(smollm2_path: Path) -> None:
    from localllm.store.gguf import read_gguf

    header = read_gguf(smollm2_path)
    tensors = [(tensor.name, tensor.size_bytes) for tensor in header.tensors]
    facts = model_facts("smollm2:135m", header.metadata, tensors, header.num_tokens or 0)
    assert kv_bytes_per_token(facts) == 23_040
    assert facts.num_vocab == 49_152
    assert plan(facts, [cpu(4 * GIB)]).num_ctx == 8192


def resident(name: str, gib: int, last_used: int, *, busy: bool = False, pinned: bool = False) -> Resident:
    return Resident(name, gib * GIB, last_used, busy=busy, pinned=pinned)


def test_evict_the_longest_unused() -> None:
    loaded = [resident("new", 4, 30), resident("old", 4, 10), resident("mid", 4, 20)]
    assert which_to_evict(loaded, 3 * GIB) == ["old"]
    assert which_to_evict(loaded, 5 * GIB) == ["old", "mid"]
    assert which_to_evict(loaded, 12 * GIB) == ["old", "mid", "new"]
    assert which_to_evict(loaded, 0) == []
    assert which_to_evict([], GIB) == []


def test_nothing_is_evicted_in_vain() -> None:
    loaded = [resident("a", 4, 1), resident("b", 4, 2)]
    assert which_to_evict(loaded, 9 * GIB) == []


def test_busy_and_pinned_models_stay() -> None:
    loaded = [resident("busy", 8, 1, busy=True), resident("pinned", 8, 2, pinned=True), resident("idle", 2, 3)]
    assert which_to_evict(loaded, GIB) == ["idle"]
    assert which_to_evict(loaded, 4 * GIB) == []


def test_a_small_model_is_spared_when_a_larger_one_suffices() -> None:
    loaded = [resident("small", 1, 1), resident("large", 8, 2)]
    assert which_to_evict(loaded, 6 * GIB) == ["large"]


def test_eviction_looks_at_one_device() -> None:
    loaded = [
        Resident("cpu-only", 8 * GIB, 1, bytes_by_device={"CPU": 8 * GIB}),
        Resident("on-gpu", 7 * GIB, 2, bytes_by_device={"CPU": GIB, "CUDA0": 6 * GIB}),
    ]
    assert which_to_evict(loaded, 5 * GIB, "CUDA0") == ["on-gpu"]
    assert which_to_evict(loaded, 7 * GIB, "CUDA0") == []
