"""What the pool decides, without a pool."""

from __future__ import annotations

import pytest

from localllm.errors import EngineCrashedError, EngineLoadError, InvalidRequestError, ModelCrashingError
from localllm.memory import Resident
from localllm.pool_rules import Crashes, is_out_of_memory, is_worth_it, leaving_bytes, who_leaves

OLD = Resident("old", 100, last_used=1.0)
NEW = Resident("new", 100, last_used=2.0)
BUSY = Resident("busy", 100, last_used=0.0, busy=True)
BUSIER = Resident("busier", 100, last_used=3.0, busy=True)
PINNED = Resident("pinned", 500, last_used=0.0, pinned=True)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (0, []),
        (-5, []),
        (1, ["old"]),
        (101, ["old", "new"]),
        (201, ["old", "new", "busy"]),
        (301, ["old", "new", "busy", "busier"]),
        (401, []),
    ],
)
def test_idle_ones_leave_first_then_busy_ones(missing: int, expected: list[str]) -> None:
    assert who_leaves([BUSIER, PINNED, NEW, BUSY, OLD], missing) == expected


def test_a_later_and_larger_one_spares_the_others() -> None:
    large = Resident("large", 1000, last_used=5.0)
    assert who_leaves([OLD, large], 600) == ["large"]
    assert who_leaves([OLD, Resident("large", 1000, 5.0, busy=True)], 1050) == ["old", "large"]


def test_what_would_be_free() -> None:
    everybody = [OLD, NEW, BUSY, PINNED]
    assert leaving_bytes(everybody, busy_too=False) == 200
    assert leaving_bytes(everybody, busy_too=True) == 300


@pytest.mark.parametrize(
    ("num_ctx", "best", "expected"), [(512, 8192, False), (4096, 131072, True), (512, 512, True), (2048, 2048, True)]
)
def test_a_small_context_is_not_worth_a_load(num_ctx: int, best: int, expected: bool) -> None:
    assert is_worth_it(num_ctx, best) is expected


def test_a_circuit_opens_after_three_crashes_and_closes_with_time() -> None:
    crashes = Crashes()
    for now in (0.0, 100.0, 250.0):
        crashes.check("m", now)
        crashes.add("m", now, f"killed at {now}")
    with pytest.raises(ModelCrashingError) as caught:
        crashes.check("m", 260.0)
    assert "killed at 250.0" in caught.value.message
    assert "3 times within 5 minutes" in caught.value.message
    assert "localllm load m" in (caught.value.hint or "")
    assert caught.value.facts["retry_after_s"] == 40.0
    crashes.check("other", 260.0)
    crashes.check("m", 300.0)
    crashes.add("m", 301.0, "again")
    with pytest.raises(ModelCrashingError):
        crashes.check("m", 302.0)
    crashes.forget("m")
    crashes.check("m", 302.0)


def test_what_counts_as_want_of_memory() -> None:
    assert is_out_of_memory(EngineLoadError("no memory for a context of 8192 tokens"))
    assert is_out_of_memory(EngineLoadError("llama.cpp could not load the model: unable to allocate CPU buffer"))
    assert is_out_of_memory(EngineCrashedError("killed", signal="SIGKILL"))
    assert is_out_of_memory(EngineCrashedError("killed", signal="SIGABRT", log=["x", "ggml: failed to allocate 5"]))
    assert not is_out_of_memory(EngineCrashedError("hung", signal="SIGKILL", hung=True))
    assert not is_out_of_memory(EngineCrashedError("killed", signal="SIGSEGV", log=["x"]))
    assert not is_out_of_memory(EngineLoadError("llama.cpp could not load the model: unknown architecture"))
    assert not is_out_of_memory(InvalidRequestError("out of memory"))
