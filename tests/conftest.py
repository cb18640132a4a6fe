"""Fixtures every test may use: the real model, a private home, and the rule for long tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def pytest_configure() -> None:
    """Let tests interrupt their children: a background job has SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `long` tests unless LOCALLLM_LONG=1, and `weights` tests where the weights are not here."""
    long_form = os.environ.get("LOCALLLM_LONG") == "1"
    weights, minilm = _find_smollm2(), find_minilm()
    for item in items:
        if item.get_closest_marker("long") and not long_form:
            item.add_marker(pytest.mark.skip(reason="long form: set LOCALLLM_LONG=1"))
        if item.get_closest_marker("weights") and weights is None:
            item.add_marker(
                pytest.mark.skip(reason="no smollm2:135m: run scripts/test.py, or `localllm pull smollm2:135m`")
            )
        if item.get_closest_marker("minilm") and not minilm.is_file():
            item.add_marker(pytest.mark.skip(reason="no all-MiniLM-L6-v2: run scripts/test.py"))


def find_minilm() -> Path:
    """Where the tests' embedding model lies, or would: `scripts/test.py` makes it there, once."""
    named = os.environ.get("LOCALLLM_TEST_MINILM")
    if named:
        return Path(named)
    from localllm.paths import data_dir

    return data_dir() / "tests" / "all-MiniLM-L6-v2-f16.gguf"


def _find_smollm2() -> Path | None:
    named = os.environ.get("LOCALLLM_TEST_MODEL")
    if named:
        return Path(named)
    from localllm.paths import store_dir

    blob = store_dir() / "blobs" / f"sha256-{DIGEST}"
    return blob if blob.is_file() else None


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The real SmolLM2-135M-Instruct Q4_1 file (98,362,432 bytes)."""
    path = _find_smollm2()
    assert path is not None, "a test that uses smollm2_path needs the marker `weights`"
    return path


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """The real all-MiniLM-L6-v2, in half precision (46,223,456 bytes)."""
    path = find_minilm()
    assert path.is_file(), "a test that uses minilm_path needs the marker `minilm`"
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`tiny_model(kind, seed=0, fim=False)`: the path of a tiny model, written once; see tests/tiny_models.py."""
    from tests.tiny_models import Kind, write_tiny_model

    folder = tmp_path_factory.mktemp("tiny-models")

    def path_of(kind: Kind = "llama", *, seed: int = 0, fim: bool = False) -> Path:
        path = folder / f"{kind}-{seed}{'-fim' if fim else ''}.gguf"
        return path if path.exists() else write_tiny_model(path, kind, seed=seed, fim=fim)

    return path_of


@pytest.fixture(autouse=True)
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point every localllm directory of a test at its own temporary folder."""
    home = tmp_path / "localllm-home"
    monkeypatch.setenv("LOCALLLM_HOME", str(home))
    for name in ("LOCALLLM_STORE", "LOCALLLM_CONFIG", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return home
