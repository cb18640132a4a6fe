"""kill -9 at any point of pull, remove, copy, adopt and prune: nothing half is ever visible, the next pull succeeds."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.tiny_gguf import write_tiny_gguf

DRIVER = Path(__file__).with_name("kill_driver.py")
HAS_PULL = importlib.util.find_spec("localllm.store.pull") is not None


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    for seed in range(3):
        write_tiny_gguf(tmp_path / "sources" / f"s{seed}.gguf", seed=seed, num_tensors=200)
    return tmp_path


@pytest.fixture
def url(workdir: Path) -> Iterator[str | None]:
    """Where the driver's `pull` finds a file; None while there is no pull."""
    if not HAS_PULL:
        yield None
        return
    from tests.store.hub_server import running_hub

    with running_hub() as hub:
        path = write_tiny_gguf(workdir / "remote.gguf", seed=9, num_tensors=200)
        hub.add("/models/remote.gguf", path.read_bytes())
        yield f"{hub.url}/models/remote.gguf"


def drive(workdir: Path, mode: str, count: int, seed: int, url: str | None) -> dict[str, int]:
    command = [sys.executable, "-W", "error", str(DRIVER), str(workdir), mode, str(count), str(seed)]
    done = subprocess.run(command + ([url] if url else []), capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    report: dict[str, int] = json.loads(done.stdout)
    return report


def test_killed_at_random_moments(workdir: Path, url: str | None) -> None:
    assert drive(workdir, "random", 20, 1, url)["kills"] >= 20


@pytest.mark.long
@pytest.mark.parametrize("seed", [2, 3])
def test_killed_200_times_at_random_moments(workdir: Path, url: str | None, seed: int) -> None:
    assert drive(workdir, "random", 200, seed, url)["kills"] >= 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to die at a chosen operation")
def test_killed_before_every_eleventh_file_operation(workdir: Path, url: str | None) -> None:
    report = drive(workdir, "every", 11, 4, url)
    assert report["add"] >= 3
    assert report["adopt_linked"] >= 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to fail at a chosen operation")
def test_full_at_every_eleventh_file_operation(workdir: Path, url: str | None) -> None:
    assert drive(workdir, "full", 11, 6, url)["add"] >= 2


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to fail at a chosen operation")
def test_full_at_every_file_operation(workdir: Path, url: str | None) -> None:
    assert drive(workdir, "full", 1, 7, url)["kills"] >= 150


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to die at a chosen operation")
def test_killed_before_every_file_operation(workdir: Path, url: str | None) -> None:
    assert drive(workdir, "every", 1, 5, url)["kills"] >= 200
