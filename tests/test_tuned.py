"""What was tuned, on disk: kept, found again, not used where it does not hold, and forgotten."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from localllm import machine, paths, tuned
from localllm.api import LoadOptions
from localllm.store.identity import UNKNOWN_DIGEST, weights_id
from localllm.store.manifest import Blob, Manifest
from localllm.tuned import Tuning
from localllm.tuning import Choices, Outcome, Trial

DIGEST = "sha256:" + "ab" * 32
MANIFEST = Manifest("tiny", "hf:o/r", (Blob(DIGEST, 7, "tiny.gguf"),), "2026-01-01", num_ctx_train=8192)
WEIGHTS = weights_id(MANIFEST, [])
CHOICES = Choices(num_threads=1, num_threads_batch=2, num_ubatch=256, flash_attn=False, kv_layout="unified")


def tuning(choices: Choices = CHOICES, **changes: Any) -> Tuning:
    trial = Trial(choices, Choices(), "kept", 0.2, 0.01, (0.2, 0.2, 0.2), {"prefill": 1.2})
    outcome = Outcome(choices, 0.2, {"prefill": 1.2}, {"prefill": 500.0}, 0.01, (trial,), 12.5)
    found = Tuning(WEIGHTS, "tiny", machine.this_machine(), "auto", 8192, 4, outcome, "2026-01-02T03:04:05")
    return msgspec.structs.replace(found, **changes)


def other_machine(**changes: Any) -> machine.Machine:
    return msgspec.structs.replace(machine.this_machine(), **changes)


def test_what_is_saved_is_found() -> None:
    path = tuned.save(tuning())
    assert path.is_relative_to(paths.data_dir())
    assert tuned.load(tuning().model) == (tuning(), [])
    tuned.save(tuning(num_slots=8))
    assert tuned.load(tuning().model) == (tuning(num_slots=8), [])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_choices_fill_in_what_options_leave_open() -> None:
    tuned.save(tuning())
    options, notices = tuned.fill_in(LoadOptions(), MANIFEST, WEIGHTS)
    assert notices == ()
    assert options == LoadOptions(
        num_threads=1, num_threads_batch=2, num_ubatch=256, flash_attn=False, kv_layout="unified"
    )


@pytest.mark.parametrize(
    ("given", "left_out"),
    [
        (LoadOptions(num_threads=7), {"num_threads_batch"}),
        (LoadOptions(num_batch=64), {"num_ubatch"}),
        (LoadOptions(kv_type_k="q8_0"), {"flash_attn"}),
        (LoadOptions(kv_layout="streams"), set()),
        (LoadOptions(num_ctx=16_384), {"flash_attn", "num_ubatch"}),
    ],
)
def test_what_is_given_wins_with_all_that_belongs_to_it(given: LoadOptions, left_out: set[str]) -> None:
    tuned.save(tuning())
    options, _ = tuned.fill_in(given, MANIFEST, WEIGHTS)
    for name in LoadOptions.__struct_fields__:
        if getattr(given, name) is not None:
            assert getattr(options, name) == getattr(given, name)
    assert all(getattr(options, name) is None for name in left_out)
    others = set(CHOICES.chosen()) - left_out - {n for n in CHOICES.chosen() if getattr(given, n) is not None}
    assert all(getattr(options, name) == getattr(CHOICES, name) for name in others)


def test_a_context_cut_for_lack_of_memory_may_grow_again() -> None:
    tuned.save(tuning(num_ctx=4096))
    options, _ = tuned.fill_in(LoadOptions(), MANIFEST, WEIGHTS)
    assert (options.flash_attn, options.num_ubatch, options.num_threads) == (None, None, 1)


def test_large_steps_only_for_as_many_slots_as_they_hold() -> None:
    tuned.save(tuning(Choices(num_batch=64, num_ubatch=64)))
    options, _ = tuned.fill_in(LoadOptions(num_slots=65), MANIFEST, WEIGHTS)
    assert options.num_batch is None


def test_not_tuned_when_not_wanted() -> None:
    tuned.save(tuning())
    wanted = LoadOptions(tuned=False)
    assert tuned.fill_in(wanted, MANIFEST, WEIGHTS) == (wanted, ())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cpu": "Z80"}, "another CPU"),
        ({"build": "0"}, "another llama.cpp build"),
        ({"localllm": "0.0.1"}, "another version of localllm"),
        ({"devices": ("CUDA9: huge",), "num_cores": 99}, "another number of cores, devices"),
    ],
)
def test_another_machine_or_version_is_not_used_and_said_so(changes: dict[str, Any], words: str) -> None:
    tuned.save(tuning(machine=other_machine(**changes)))
    options, notices = tuned.fill_in(LoadOptions(), MANIFEST, WEIGHTS)
    assert options == LoadOptions()
    assert [notice.kind for notice in notices] == ["tuning_not_used"]
    assert words in notices[0].message
    assert "localllm tune tiny" in notices[0].message
    tuned.save(tuning())
    assert tuned.fill_in(LoadOptions(), MANIFEST, WEIGHTS)[1] == ()


def test_another_device_is_not_used_and_said_so() -> None:
    tuned.save(tuning())
    options, notices = tuned.fill_in(LoadOptions(device="CUDA0"), MANIFEST, WEIGHTS)
    assert options == LoadOptions(device="CUDA0")
    assert "another device (auto)" in notices[0].message


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff\xfe"])
def test_a_broken_file_counts_as_none(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tuned.save(tuning())
    path.write_bytes(content)
    assert tuned.load(tuning().model) == (None, [])
    assert "does not read" in caplog.text
    assert tuned.fill_in(LoadOptions(), MANIFEST, WEIGHTS) == (LoadOptions(), ())


def test_a_newer_format_counts_as_none() -> None:
    path = tuned.save(tuning())
    path.write_bytes(path.read_bytes().replace(b'"schema": 1', b'"schema": 2'))
    assert tuned.load(tuning().model) == (None, [])


def test_reset_forgets_every_machine() -> None:
    tuned.save(tuning())
    tuned.save(tuning(machine=other_machine(cpu="Z80")))
    folder = paths.tuned_dir() / tuning().model
    assert tuned.reset(tuning().model) == 2
    assert not folder.exists()
    assert tuned.reset(tuning().model) == 0


def test_a_file_run_in_place_is_known_by_its_bytes(tmp_path: Path) -> None:
    unhashed = msgspec.structs.replace(MANIFEST, blobs=(Blob(UNKNOWN_DIGEST, 3, "a.gguf"),))
    first, second = tmp_path / "a.gguf", tmp_path / "b.gguf"
    first.write_bytes(b"abc")
    shutil.copy2(first, second)
    assert weights_id(unhashed, [first]) == weights_id(unhashed, [second])
    second.write_bytes(b"abd")
    assert weights_id(unhashed, [first]) != weights_id(unhashed, [second])
    assert weights_id(MANIFEST, [first]) == DIGEST.replace(":", "-")


def test_this_machine_is_the_same_each_time() -> None:
    here = machine.this_machine()
    assert here.id == machine.this_machine().id
    assert here.differs_in(here) == ""
    assert here.cpu
    assert 1 <= here.num_cores <= here.num_logical_cores
    assert here.build


def test_peak_memory_of_a_process() -> None:
    import os

    peak = machine.peak_memory_bytes(os.getpid())
    assert peak is not None
    assert peak > 1 << 20
    assert machine.peak_memory_bytes(2**22 + 1) is None
