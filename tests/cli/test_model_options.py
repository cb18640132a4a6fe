"""Options that change what a model computes: adapters, cache types, filling in."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from localllm.api import Adapter, LoadOptions
from localllm.cli.options import adapter, load_options
from localllm.config import Settings
from tests.cli.running import localllm
from tests.tiny_adapters import random_pairs, write_adapter
from tests.tiny_models import tiny_tensors

TinyModel = Callable[..., Path]
REAL = (sys.executable, "-c", "import sys; from localllm.cli import main; sys.exit(main())")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.gguf", Adapter("a.gguf")),
        ("a.gguf:0.5", Adapter("a.gguf", 0.5)),
        ("style:-1", Adapter("style", -1.0)),
        ("C:\\a.gguf", Adapter("C:\\a.gguf")),
        ("C:\\a.gguf:2", Adapter("C:\\a.gguf", 2.0)),
        ("b:c.gguf", Adapter("b:c.gguf")),
    ],
)
def test_an_adapter_as_it_is_typed(text: str, expected: Adapter) -> None:
    assert adapter(text) == expected


def test_adapters_and_a_suffix_are_in_the_request() -> None:
    ran = localllm("run", "tiny", "request", "--adapter", "a.gguf:0.5", "--adapter", "style")
    assert "adapters=(Adapter(path='a.gguf', scale=0.5), Adapter(path='style', scale=1.0))" in ran.stdout
    assert "suffix='the end'" in localllm("run", "tiny", "request", "--raw", "--suffix", "the end").stdout


def test_a_suffix_without_raw_is_a_usage_error() -> None:
    ran = localllm("run", "tiny", "request", "--suffix", "the end")
    assert ran.returncode == 2
    assert "--suffix goes with --raw" in ran.stderr


def test_cache_types_reach_the_load() -> None:
    ran = localllm("run", "tiny", "settings", "--kv-type", "q8_0", "--flash-attn")
    assert "kv_type_k='q8_0', kv_type_v='q8_0', flash_attn=True" in ran.stdout
    assert "flash_attn=False" in localllm("run", "tiny", "settings", "--no-flash-attn").stdout
    assert load_options(Settings(kv_type="q4_0")) == LoadOptions(kv_type_k="q4_0", kv_type_v="q4_0", tuned=True)


def real(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*REAL, *args], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False, encoding="utf-8"
    )


def test_the_whole_way(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = tmp_path / "tiny.gguf"
    shutil.copyfile(tiny_model(fim=True), model)
    # Made for another size of vocabulary, but of weights that are the same size.
    path = write_adapter(tmp_path / "a.gguf", random_pairs(tiny_tensors("llama")))
    asked = ("run", str(model), "the cat", "--raw", "-n", "8", "-t", "0", "--ctx", "256", "--ignore-eos")
    plain, adapted = real(*asked), real(*asked, "--adapter", f"{path}:0.5")
    assert plain.returncode == adapted.returncode == 0, adapted.stderr
    assert plain.stdout != adapted.stdout
    filled = real(*asked, "--suffix", " sat", "--kv-type", "q8_0")
    assert filled.returncode == 0, filled.stderr
    assert filled.stdout != plain.stdout
    for bad, says in [
        (("--adapter", str(model)), "says nothing of being an adapter"),
        (("--kv-type", "q9"), "q9 is no cache type"),
        (("--kv-type", "q8_0", "--no-flash-attn"), "need flash attention"),
    ]:
        ran = real(*asked, *bad)
        assert ran.returncode == 2
        assert says in ran.stderr
        assert "Traceback" not in ran.stderr
