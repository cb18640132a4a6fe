"""From load options to what the engine is told: cache types and adapters, checked before a child is started."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localllm import loading
from localllm.api import (
    Adapter,
    CompletionRequest,
    LoadOptions,
    SamplingParams,
    TextDelta,
    TokenLogprob,
)
from localllm.config import Settings
from localllm.errors import AdapterError, InvalidRequestError
from localllm.model_shape import kv_bytes_per_token
from localllm.name import ModelName
from localllm.pool import PlannedLoad
from localllm.service import Service
from tests.tiny_adapters import random_pairs, write_adapter
from tests.tiny_models import tiny_tensors

TinyModel = Callable[..., Path]


def planned(path: Path, settings: Settings | None = None, **options: Any) -> PlannedLoad:
    """How a file would be loaded now."""
    manifest, files = loading.manifest_of_file(ModelName.parse(str(path)))
    wanted = LoadOptions(**{"num_ctx": 512, "prefix_disk_bytes": 0, **options})
    return loading.plan_load(manifest, files, wanted, settings or Settings(), contextlib.nullcontext())


async def logprobs_of(path: Path, prompt: str, *adapters: Adapter, **options: Any) -> list[TokenLogprob]:
    """A greedy answer of a service that loads with these options, token by token."""
    wanted = LoadOptions(**{"num_ctx": 512, "num_slots": 1, "prefix_disk_bytes": 0, **options})
    service = Service(load_options=wanted)
    sampling = SamplingParams(temperature=0, max_tokens=32, logprobs=1, ignore_eos=True)
    found: list[TokenLogprob] = []
    try:
        async for event in service.complete(CompletionRequest(str(path), prompt, sampling, adapters=adapters)):
            if isinstance(event, TextDelta):
                found.extend(event.logprobs)
    finally:
        await service.close()
    return found


def run(path: Path, prompt: str, *adapters: Adapter, **options: Any) -> list[TokenLogprob]:
    return asyncio.run(asyncio.wait_for(logprobs_of(path, prompt, *adapters, **options), 60))


def test_choices_reach_the_engine(tiny_model: TinyModel) -> None:
    spec = planned(tiny_model(), kv_type_k="q8_0", kv_type_v="q4_0", flash_attn=True, num_ubatch=64).spec
    assert (spec.kv_type_k, spec.kv_type_v, spec.flash_attn, spec.num_ubatch) == ("q8_0", "q4_0", True, 64)
    spec = planned(tiny_model()).spec
    assert (spec.kv_type_k, spec.kv_type_v, spec.flash_attn, spec.num_ubatch) == ("f16", "f16", None, 512)


def test_settings_stand_behind_options(tiny_model: TinyModel) -> None:
    settings = Settings(kv_type="q8_0", flash_attn=True)
    spec = planned(tiny_model(), settings).spec
    assert (spec.kv_type_k, spec.kv_type_v, spec.flash_attn) == ("q8_0", "q8_0", True)
    spec = planned(tiny_model(), settings, kv_type_k="f16", kv_type_v="f16", flash_attn=False).spec
    assert (spec.kv_type_k, spec.kv_type_v, spec.flash_attn) == ("f16", "f16", False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kv_type_k": "q9"}, "no cache type"),
        ({"kv_type_v": "q8_0", "flash_attn": False}, "flash attention"),
        ({"num_ubatch": 0}, "num_ubatch is 0"),
    ],
)
def test_what_does_not_go_together_is_refused_by_the_plan(
    tiny_model: TinyModel, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        planned(tiny_model(), **options)


@pytest.mark.weights
def test_a_quantized_cache_takes_half_the_memory(smollm2_path: Path) -> None:
    def cells(**options: Any) -> int:
        small, large = (planned(smollm2_path, num_ctx=n, num_slots=1, **options).needed_bytes for n in (2048, 4096))
        # The attention mask is 2 bytes a cell and token of a step, and an eighth.
        return large - small - 2048 * 2 * 512 * 9 // 8

    assert cells() == 2048 * 23_040
    assert cells(kv_type_k="q8_0", kv_type_v="q8_0") == 2048 * 23_040 * 34 // 64
    assert cells(kv_type_k="q8_0") == 2048 * (11_520 * 34 // 64 + 11_520)
    host = [planned(smollm2_path, kv_type_k=kv, kv_type_v=kv).spec.host_tokens for kv in ("f16", "q8_0")]
    assert 1.7 < host[1] / host[0] < 2.1


def test_streams_are_taken_as_far_as_they_are_cheap(tiny_model: TinyModel) -> None:
    """An eighth of what is free: eight streams, else four, else eight slots of one pool; what was asked for is kept."""
    manifest, files = loading.manifest_of_file(ModelName.parse(str(tiny_model())))

    def chosen(available_bytes: int, **options: Any) -> tuple[str, int]:
        wanted = LoadOptions(num_ctx=65_536, prefix_disk_bytes=0, **options)
        hold = contextlib.nullcontext()
        spec = loading.plan_load(manifest, files, wanted, Settings(), hold, available_bytes=available_bytes).spec
        return spec.kv_layout, spec.num_slots

    of_one = 65_536 * kv_bytes_per_token(loading.read_facts("tiny", files), "f16", "f16")
    assert chosen(8 * 8 * of_one) == ("streams", 8)
    assert chosen(8 * 8 * of_one - 1) == ("streams", 4)
    assert chosen(8 * 4 * of_one - 1) == ("unified", 8)
    assert chosen(8 * 8 * of_one - 1, num_slots=8) == ("unified", 8)
    assert chosen(8 * 8 * of_one, num_slots=3) == ("streams", 3)


def test_a_setting_bounds_the_prefixes_on_disk(tiny_model: TinyModel) -> None:
    for wanted in (0, 12_345_678):
        settings = Settings(prefix_disk_bytes=wanted)
        assert planned(tiny_model(), settings, prefix_disk_bytes=None).spec.prefix_disk_bytes == wanted


def test_adapters_of_the_load_are_applied(tiny_model: TinyModel, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a.gguf", random_pairs(tiny_tensors("llama")))
    adapter = Adapter(str(path), 0.5)
    spec = planned(tiny_model(), adapters=(adapter,)).spec
    assert spec.adapters == (adapter,)
    more = planned(tiny_model(), adapters=(adapter,)).needed_bytes - planned(tiny_model()).needed_bytes
    assert more == path.stat().st_size
    tokens = [entry.token for entry in run(tiny_model(), "the cat", adapters=(adapter,))]
    assert tokens == [entry.token for entry in run(tiny_model(), "the cat", adapter)]
    assert tokens != [entry.token for entry in run(tiny_model(), "the cat")]


def test_adapters_that_do_not_fit_are_refused_by_the_plan(tiny_model: TinyModel, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a.gguf", random_pairs(tiny_tensors("llama")), architecture="qwen3")
    with pytest.raises(AdapterError, match="for qwen3, the model is llama"):
        planned(tiny_model(), adapters=(Adapter(str(path)),))
    with pytest.raises(AdapterError, match="there is no adapter style"):
        planned(tiny_model(), adapters=(Adapter("style"),))


def test_a_service_finds_adapters_by_name(tiny_model: TinyModel, tmp_path: Path, private_home: Path) -> None:
    (private_home / "adapters").mkdir(parents=True)
    pairs = random_pairs(tiny_tensors("llama"))
    write_adapter(private_home / "adapters" / "style.gguf", pairs)
    by_path = run(tiny_model(), "the cat", Adapter(str(write_adapter(tmp_path / "a.gguf", pairs))))
    assert run(tiny_model(), "the cat", Adapter("style")) == by_path
    with pytest.raises(AdapterError, match="there is no adapter other"):
        run(tiny_model(), "the cat", Adapter("other"))
