"""What guessing ahead may take of the memory, and how a draft model gets from an option to the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from localllm.api import CompletionRequest, Finished, LoadOptions, SamplingParams
from localllm.drafting import LOGITS_BYTES, LOGITS_SHARE, DraftFiles, choose_max_drafts, draft_bytes, logits_bytes
from localllm.errors import DraftModelError, OutOfMemoryError
from localllm.memory import DeviceMemory, plan
from localllm.service import Service
from tests.cli.running import localllm
from tests.test_memory import SMOLLM2

TinyModel = Callable[..., Path]
GIB = 2**30


def test_few_slots_and_a_small_vocabulary_leave_room_for_many_guesses() -> None:
    assert choose_max_drafts(SMOLLM2, 4, 8 * GIB) == 15
    large = msgspec.structs.replace(SMOLLM2, num_vocab=152_064)
    sizes = [choose_max_drafts(large, num_slots, 64 * GIB) for num_slots in (1, 4, 8, 64, 256)]
    assert sizes == [15, 15, 7, 0, 0]
    for num_slots, size in zip((1, 4, 8), sizes, strict=False):
        assert logits_bytes(large, num_slots, size) <= LOGITS_BYTES


def test_little_memory_leaves_no_guesses() -> None:
    need = logits_bytes(SMOLLM2, 4, 3)
    assert choose_max_drafts(SMOLLM2, 4, LOGITS_SHARE * need) == 3
    assert choose_max_drafts(SMOLLM2, 4, LOGITS_SHARE * need - 1) == 0


def test_what_cannot_take_guesses_has_no_room_for_them() -> None:
    assert choose_max_drafts(msgspec.structs.replace(SMOLLM2, recurrent_bytes=1), 1, 8 * GIB) == 0
    assert choose_max_drafts(msgspec.structs.replace(SMOLLM2, task="embed"), 1, 8 * GIB) == 0


def test_a_draft_model_takes_its_weights_and_cells_of_its_own() -> None:
    chosen = plan(SMOLLM2, [DeviceMemory("CPU", 8 * GIB, is_host=True)], LoadOptions(num_ctx=1024))
    draft = DraftFiles(("draft.gguf",), SMOLLM2)
    needed = draft_bytes(draft, chosen, 8 * GIB)
    assert needed > SMOLLM2.weight_bytes
    assert draft_bytes(draft, chosen, needed) == needed
    with pytest.raises(OutOfMemoryError, match="no room for the draft model"):
        draft_bytes(draft, chosen, needed - 1)
    assert draft_bytes(None, chosen, 0) == 0


async def answer(path: Path, draft: Path) -> Finished:
    """The end of an answer of a service whose models have a draft model."""
    service = Service(load_options=LoadOptions(num_ctx=256, num_slots=1, prefix_disk_bytes=0, draft_model=str(draft)))
    sampling = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
    try:
        async for event in service.complete(CompletionRequest(str(path), "the cat", sampling)):
            if isinstance(event, Finished):
                return event
    finally:
        await service.close()
    raise AssertionError("a stream ends in Finished")


def test_a_draft_model_is_found_and_loaded(tiny_model: TinyModel) -> None:
    path = tiny_model("llama")
    end = asyncio.run(answer(path, path))
    assert end.usage.num_output_tokens == 24


def test_a_draft_model_that_cannot_draft_is_a_named_error(tiny_model: TinyModel) -> None:
    with pytest.raises(DraftModelError, match="cannot be cut"):
        asyncio.run(answer(tiny_model("llama"), tiny_model("mamba")))


def test_the_options_reach_the_load_and_the_request() -> None:
    assert "draft_model='small.gguf'" in localllm("run", "tiny", "settings", "--draft-model", "small.gguf").stdout
    assert "speculate=False" in localllm("run", "tiny", "request", "--no-speculate").stdout
