"""Memory of an engine child over many requests of every kind. The bar: at most 32 MiB more after the first 200."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT_BYTES = 32 * 2**20

pytestmark = [
    pytest.mark.weights,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
]


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield
    sys.modules.pop("soak", None)


def soaked(path: Path, num_requests: int) -> None:
    import soak

    result = asyncio.run(asyncio.wait_for(soak.soak(str(path), num_requests=num_requests), 3600))
    assert result.wrong == []
    assert sum(result.ends.values()) == num_requests
    # Every kind came up, so that the figure means something.
    assert {end.split(":")[0] for end in result.ends} == set(soak.KINDS)
    assert result.memory[0][1] > 2**20
    assert result.growth_bytes <= LIMIT_BYTES


def test_memory_stays_over_hundreds_of_mixed_requests(smollm2_path: Path) -> None:
    soaked(smollm2_path, 500)


@pytest.mark.long
def test_memory_stays_over_ten_thousand_mixed_requests(smollm2_path: Path) -> None:
    soaked(smollm2_path, 10_000)
