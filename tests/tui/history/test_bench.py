"""The benchmark of the history runs, and its figures keep to the bars: in the long form with 10,000 conversations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "bench_history.py"


@pytest.mark.skipif(sys.platform == "win32", reason="the script measures what Windows does not have")
@pytest.mark.parametrize("num", [200, pytest.param(10_000, marks=pytest.mark.long)])
def test_bench_history(num: int) -> None:
    command = [sys.executable, str(SCRIPT), "--conversations", str(num), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["search_worst_s"] <= 0.1
    assert figures["search_first_worst_s"] <= 0.3
    assert figures["open_s"] <= 0.5
    assert figures["first_page_s"] <= 0.1
    assert figures["memory_mib"] <= 200
    assert figures["stream_update_worst_s"] <= 0.5
