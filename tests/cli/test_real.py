"""The command over the real Service and the real model: the whole way from the shell to an answer and back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.weights

COMMAND = (sys.executable, "-c", "import sys; from localllm.cli import main; sys.exit(main())")


@pytest.fixture
def model(smollm2_path: Path, tmp_path: Path) -> Path:
    """The model under a name that ends in .gguf."""
    path = tmp_path / "smol.gguf"
    try:
        os.link(smollm2_path, path)
    except OSError:
        shutil.copyfile(smollm2_path, path)
    return path


def localllm(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *args], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=300, check=False
    )


def test_an_answer_from_a_file(model: Path) -> None:
    args = ("run", str(model), "Name one colour.", "-n", "12", "-t", "0", "--ctx", "512")
    ran = localllm(*args, "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["content"].strip()
    assert document["usage"]["num_output_tokens"] <= 12
    assert document["timings"]["prompt_s"] > 0
    plain = localllm(*args, "--verbose")
    assert plain.stdout == document["content"] + "\n"
    assert "tok/s" in plain.stderr


def test_pull_list_show_run_rm(model: Path) -> None:
    pulled = localllm("pull", str(model), "--json")
    assert pulled.returncode == 0, pulled.stderr
    name = json.loads(pulled.stdout)[0]["name"]
    assert localllm("cp", name, "smol").returncode == 0
    assert [entry["name"] for entry in json.loads(localllm("list", "--json").stdout)] == sorted([name, "smol"])
    assert json.loads(localllm("show", "smol", "--json").stdout)["num_layers"] == 30
    ran = localllm("run", "smol", "Hi", "-n", "3", "--ctx", "512", "--offline")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    assert localllm("rm", name, "smol").returncode == 0
    assert json.loads(localllm("list", "--json").stdout) == []


def test_an_over_long_prompt_is_an_error_with_both_counts(model: Path) -> None:
    ran = localllm("run", str(model), "word " * 600, "--ctx", "256")
    assert ran.returncode == 2
    assert "256" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a console event there")
def test_ctrl_c_ends_the_answer_and_the_engine(model: Path) -> None:
    args = [*COMMAND, "run", str(model), "Tell a very long story.", "--ctx", "2048", "--ignore-eos"]
    with subprocess.Popen(
        args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.read(1)
        # As a terminal does it: to the whole group, the engine child too.
        os.killpg(child.pid, signal.SIGINT)
        child.stdout.read()
        assert b"Traceback" not in child.stderr.read()
        assert child.wait(30) == 130
    assert is_gone(child.pid), "the engine child, which was in the same group, is still there"


def is_gone(group: int) -> bool:
    """Whether every process of a group ends within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
