"""A model's own draft layers in the memory plan: what they are, what they take, and when they are left out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from localllm import loading
from localllm.api import CompletionRequest, Finished, LoadOptions, SamplingParams
from localllm.config import Settings
from localllm.drafting import mtp_bytes
from localllm.memory import DeviceMemory, plan
from localllm.model_shape import kv_bytes_per_token, nextn_kv_bytes_per_token
from localllm.name import ModelName
from localllm.pool import PlannedLoad
from localllm.service import Service
from tests.tiny_models import HEAD_DIM, NUM_KV_HEADS
from tests.tiny_nextn import KINDS, NUM_TRUNK, RECURRENT, NextnKind, nextn_tensors, write_nextn_model

TinyModel = Callable[..., Path]
GIB = 2**30


def planned(path: Path, available_bytes: int = 4 * GIB) -> PlannedLoad:
    """How a file would be loaded with so much memory free."""
    manifest, files = loading.manifest_of_file(ModelName.parse(str(path)))
    wanted = LoadOptions(num_ctx=512, prefix_disk_bytes=0)
    hold = contextlib.nullcontext()
    return loading.plan_load(manifest, files, wanted, Settings(), hold, available_bytes=available_bytes)


@pytest.mark.parametrize("kind", KINDS)
def test_draft_layers_are_no_part_of_the_model_and_counted_apart(tmp_path: Path, kind: NextnKind) -> None:
    path = write_nextn_model(tmp_path / "m.gguf", kind)
    facts = loading.read_facts("m", [path])
    tensors = nextn_tensors(kind, "random", 0, 1)
    of_head = [tensor.nbytes for name, tensor in tensors.items() if name.startswith(f"blk.{NUM_TRUNK}.")]
    assert facts.num_layers == NUM_TRUNK
    assert facts.nextn_bytes == sum(of_head)
    assert facts.weight_bytes + facts.nextn_bytes == sum(tensor.nbytes for tensor in tensors.values())
    assert nextn_kv_bytes_per_token(facts) == 2 * 2 * NUM_KV_HEADS * HEAD_DIM
    assert nextn_kv_bytes_per_token(facts, "q8_0") < nextn_kv_bytes_per_token(facts)
    num_attending = 1 if kind in RECURRENT else NUM_TRUNK
    assert kv_bytes_per_token(facts) == 2 * 2 * NUM_KV_HEADS * HEAD_DIM * num_attending


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_drafts_for_itself_is_loaded_so(tmp_path: Path, kind: NextnKind) -> None:
    whole = planned(write_nextn_model(tmp_path / "whole.gguf", kind))
    stripped = planned(write_nextn_model(tmp_path / "stripped.gguf", kind, stripped=True))
    assert (whole.spec.use_mtp, stripped.spec.use_mtp) == (True, False)
    assert whole.needed_bytes > stripped.needed_bytes
    assert (whole.spec.max_drafts, stripped.spec.max_drafts) == ((3, 0) if kind in RECURRENT else (15, 15))


def test_without_room_the_model_does_without(tmp_path: Path) -> None:
    facts = loading.read_facts("m", [write_nextn_model(tmp_path / "m.gguf", "glm4moe")])
    chosen = plan(facts, [DeviceMemory("CPU", 8 * GIB, is_host=True)], LoadOptions(num_ctx=1024))
    needed = mtp_bytes(facts, chosen, 8 * GIB)
    assert needed > facts.nextn_bytes + chosen.num_cells * nextn_kv_bytes_per_token(facts)
    assert mtp_bytes(facts, chosen, 2 * needed) == needed
    assert mtp_bytes(facts, chosen, 2 * needed - 1) == 0
    assert mtp_bytes(msgspec.structs.replace(facts, nextn_bytes=0), chosen, 8 * GIB) == 0


def test_a_recurrent_state_is_taken_back_in_streams_only(tmp_path: Path) -> None:
    facts = loading.read_facts("m", [write_nextn_model(tmp_path / "m.gguf", "qwen35")])
    assert facts.recurrent_bytes > 0
    host = [DeviceMemory("CPU", 8 * GIB, is_host=True)]
    found = {
        (layout, num_slots): mtp_bytes(
            facts, plan(facts, host, LoadOptions(num_ctx=1024, kv_layout=layout, num_slots=num_slots)), 8 * GIB
        )
        for layout in ("streams", "unified")
        for num_slots in (1, 4)
    }
    assert found["unified", 4] == 0
    assert 0 < found["unified", 1] == found["streams", 1] < found["streams", 4]


def test_more_layers_than_llama_cpp_takes_are_left_alone(tmp_path: Path) -> None:
    """It aborts on a second one in most architectures."""
    assert not planned(write_nextn_model(tmp_path / "two.gguf", "glm4moe", num_nextn=2)).spec.use_mtp
    assert planned(write_nextn_model(tmp_path / "three.gguf", "mimo2", num_nextn=3)).spec.use_mtp


def test_models_without_draft_layers_are_loaded_as_before(tiny_model: TinyModel) -> None:
    for kind in ("llama", "moe", "iswa", "hybrid"):
        facts = loading.read_facts("m", [tiny_model(kind)])
        assert (facts.nextn_bytes, facts.nextn_heads_kv) == (0, 0)
        assert not planned(tiny_model(kind)).spec.use_mtp


def test_a_service_drafts_by_the_head_unasked(tmp_path: Path) -> None:
    async def main(path: Path) -> Finished:
        service = Service(load_options=LoadOptions(num_ctx=256, num_slots=1, prefix_disk_bytes=0))
        sampling = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)
        try:
            async for event in service.complete(CompletionRequest(str(path), "the cat", sampling)):
                if isinstance(event, Finished):
                    return event
        finally:
            await service.close()
        raise AssertionError("a stream ends in Finished")

    end = asyncio.run(main(write_nextn_model(tmp_path / "three.gguf", "mimo2", head="agrees", num_nextn=3)))
    assert end.usage.num_output_tokens == 60
    assert 0 < end.usage.num_accepted_tokens <= end.usage.num_drafted_tokens
