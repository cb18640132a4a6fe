"""Names and paths of adapters are kept apart: who speaks for others takes names only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from localllm import paths
from localllm.api import Adapter
from localllm.errors import AdapterError
from localllm.store.adapter_files import check_adapters, resolve_adapters
from tests.tiny_adapters import random_pairs, write_adapter
from tests.tiny_models import tiny_tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "style.gguf").write_bytes(b"GGUF")
    (tmp_path / "v1.2_final.gguf").write_bytes(b"GGUF")
    return tmp_path


@pytest.mark.parametrize("allow_paths", [True, False])
def test_a_name_is_a_file_in_the_folder(folder: Path, allow_paths: bool) -> None:
    wanted = [Adapter("style", 0.5), Adapter("v1.2_final")]
    found = resolve_adapters(wanted, folder=folder, allow_paths=allow_paths)
    assert found == (Adapter(str(folder / "style.gguf"), 0.5), Adapter(str(folder / "v1.2_final.gguf")))


def test_the_folder_is_below_the_home(private_home: Path) -> None:
    (private_home / "adapters").mkdir(parents=True)
    (private_home / "adapters" / "style.gguf").write_bytes(b"GGUF")
    assert paths.adapter_dir() == private_home / "adapters"
    assert resolve_adapters([Adapter("style")])[0].path == str(private_home / "adapters" / "style.gguf")


@pytest.mark.parametrize("allow_paths", [True, False])
def test_a_name_that_is_not_there(folder: Path, allow_paths: bool) -> None:
    with pytest.raises(AdapterError, match="no adapter other") as caught:
        resolve_adapters([Adapter("other")], folder=folder, allow_paths=allow_paths)
    # A client is not told where things lie.
    assert (str(folder) in (caught.value.hint or "")) == allow_paths


def test_a_path_becomes_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for text in ("style.gguf", "./style.gguf", str(folder / "style.gguf"), "style.GGUF"):
        (found,) = resolve_adapters([Adapter(text)], folder=folder)
        assert Path(found.path) == folder / Path(text).name


@pytest.mark.parametrize(
    "path",
    [
        "style.gguf",
        "./style",
        "../style",
        "a/b",
        "a\\b",
        "/etc/passwd",
        "C:style",
        "~/style",
        "",
        ".hidden",
        "..",
        "a\n",
    ],
)
def test_what_is_no_name_is_refused_for_clients(folder: Path, path: str) -> None:
    with pytest.raises(AdapterError, match="no name of an adapter"):
        resolve_adapters([Adapter(path)], folder=folder, allow_paths=False)


def test_adapters_are_checked_against_the_model(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a.gguf", random_pairs(tiny_tensors("llama")))
    adapters = [Adapter(str(path)), Adapter(str(path), 0.5)]
    assert check_adapters(adapters, [tiny_model("llama")]) == 2 * path.stat().st_size
    assert check_adapters([], []) == 0
    with pytest.raises(AdapterError, match="the model is gemma3"):
        check_adapters(adapters, [tiny_model("iswa")])
