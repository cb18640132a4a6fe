from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from localllm.errors import InvalidRequestError
from localllm.replay import load_record

pytestmark = pytest.mark.weights

ASK = ("A poem about the sea:", "--raw", "-n", "24", "--seed", "5", "-t", "0.9", "--ctx", "512", "--quiet")


def localllm(*args: str) -> tuple[int, str]:
    """Exit code and standard output of a command."""
    ran = subprocess.run(
        [sys.executable, "-m", "localllm", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return ran.returncode, ran.stdout


@pytest.fixture
def record(smollm2_path: Path, tmp_path: Path) -> Path:
    """The record of an answer."""
    path = tmp_path / "record.json"
    code, text = localllm("run", str(smollm2_path), *ASK, "--deterministic", "--receipt", str(path))
    assert code == 0
    assert text.strip()
    return path


def test_a_recorded_answer_comes_again(record: Path) -> None:
    assert localllm("replay", str(record), "--ctx", "512") == (0, "the same answer\n")
    if sys.platform != "win32":
        assert stat.S_IMODE(record.stat().st_mode) == 0o600


def test_what_differs_is_told(record: Path) -> None:
    changed = json.loads(record.read_text())
    changed["receipt"]["sampling"]["seed"] = 6
    record.write_text(json.dumps(changed))
    code, out = localllm("replay", str(record), "--ctx", "512", "--threads", "1", "--json")
    assert code == 1
    document = json.loads(out)
    assert not document["same"]
    assert any("num_threads" in difference for difference in document["differences"])
    assert "the answer's tokens" in document["differences"]
    assert document["receipt"]["sampling"]["seed"] == 6


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"receipt": 3}', "\udcff"])
def test_a_file_that_is_no_record(tmp_path: Path, text: str) -> None:
    path = tmp_path / "no.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidRequestError, match="no record"):
        load_record(path)
    assert localllm("replay", str(path))[0] == 2
    assert localllm("replay", str(tmp_path / "missing.json"))[0] == 1
