"""`localllm doctor`: the real probe of this machine, and each kind of problem it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localllm import paths
from localllm.store.describe import describe
from localllm.store.store import ModelStore
from tests.cli.running import localllm
from tests.store.tiny_gguf import write_tiny_gguf


def test_facts_of_this_machine() -> None:
    ran = localllm("doctor", "--json")
    document = json.loads(ran.stdout)
    assert ran.returncode == 0, ran.stderr
    assert list(document) == ["ok", "versions", "system", "devices", "features", "store", "settings", "problems"]
    assert document["ok"] is True
    assert document["versions"]["llama-cpp-python"] == "0.3.36"
    assert "CPU" in {device["name"] for device in document["devices"]}
    assert document["features"]["CPU"]
    assert 0 < document["system"]["available_bytes"] <= document["system"]["memory_bytes"]
    assert document["store"]["path"] == str(paths.store_dir())


def test_facts_for_people() -> None:
    ran = localllm("doctor")
    assert ran.returncode == 0
    for word in ("llama.cpp ", "memory ", "CPU features ", "store ", "DEVICE "):
        assert word in ran.stdout
    assert "nothing is wrong" in ran.stderr


def test_a_wrong_setting_is_named_and_the_rest_still_shown(private_home: Path) -> None:
    private_home.mkdir()
    (private_home / "config.toml").write_text("device = 5\n")
    ran = localllm("doctor", env={"LOCALLLM_OFLINE": "1"})
    assert ran.returncode == 1
    assert "config.toml:1: device cannot be 5" in ran.stderr
    assert "warning: environment variable LOCALLLM_OFLINE means nothing" in ran.stderr
    assert "memory " in ran.stdout


def test_a_device_that_is_not_here() -> None:
    ran = localllm("doctor", "--quiet", env={"LOCALLLM_DEVICE": "CUDA9"})
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "error: the settings ask for device 'CUDA9'" in ran.stderr
    assert "hint: here are auto, cpu, CPU" in ran.stderr


def test_a_model_whose_bytes_are_gone(private_home: Path, tmp_path: Path) -> None:
    del private_home
    tiny = write_tiny_gguf(tmp_path / "tiny.gguf")
    store = ModelStore(paths.store_dir())
    blob = store.ingest(tiny, digest=None)
    store.add(describe("tiny", "./tiny.gguf", [blob], [tiny]))
    path = store.paths(store.get("tiny"))[0]
    path.unlink()
    ran = localllm("doctor", "--json")
    assert ran.returncode == 1
    assert [problem["level"] for problem in json.loads(ran.stdout)["problems"]] == ["error"]
    assert "tiny" in json.loads(ran.stdout)["problems"][0]["message"]


def test_a_store_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("LOCALLLM_STORE", str(file / "store"))
    ran = localllm("doctor", "--json")
    assert ran.returncode == 1
    assert "cannot be" in json.loads(ran.stdout)["problems"][0]["message"]
