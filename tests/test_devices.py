"""What this machine is, as localllm sees it."""

from __future__ import annotations

import os

from localllm import devices


def test_memory_and_cores_are_plausible() -> None:
    assert 1 <= devices.num_cores() <= (os.cpu_count() or 1)
    assert 0 < devices.available_memory() <= devices.total_memory()


def test_llama_cpp_answers_in_a_child_of_its_own() -> None:
    probe = devices.probe()
    assert probe.llama_cpp_python == "0.3.36"
    assert [device.kind for device in probe.devices].count("CPU") == 1
    assert "CPU" in probe.features
    assert probe.supports_mmap
