"""What is shipped: wheel and sdist of a copy of the tree, looked into and installed into a real environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import localllm

ROOT = Path(__file__).resolve().parent.parent
# Where each import package lies in the tree.
PLACES = {"localllm": "localllm", "localllm/models": "models", "localllm_tui": "tui"}
NO_NETWORK = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def run(command: list[str], cwd: Path, **env: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **NO_NETWORK, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shipped() -> set[str]:
    """Names that a wheel must hold: every module, type marker, style sheet and catalogue file of the tree."""
    wanted = set()
    for package, place in PLACES.items():
        for path in (ROOT / place).rglob("*"):
            if path.suffix in {".py", ".tcss", ".toml"} or path.name == "py.typed":
                wanted.add(f"{package}/{path.relative_to(ROOT / place).as_posix()}")
    return wanted


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the build reads, so that a build leaves nothing in the checkout and finds nothing old there."""
    copy = tmp_path_factory.mktemp("tree")
    for place in PLACES.values():
        shutil.copytree(ROOT / place, copy / place, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tree, tmp_path_factory.mktemp("wheel"))


def build_wheel(tree: Path, out: Path) -> Path:
    run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(out), "."], tree)
    (built,) = out.glob("localllm-*.whl")
    return built


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_every_file_of_the_tree(wheel: Path) -> None:
    names = names_in(wheel)
    missing = shipped() - names
    assert not missing, "a new package directory? name it in [tool.setuptools] packages"
    assert "localllm/models/smollm2.toml" in names
    assert {name.split("/")[0] for name in names} - {"localllm", "localllm_tui"} == {
        name.split("/")[0] for name in names if ".dist-info/" in name
    }


def test_wheel_names_the_command_the_licence_and_the_version(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = next(name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        assert "localllm = localllm.cli:main" in archive.read(f"{info}/entry_points.txt").decode()
        assert "MIT License" in archive.read(f"{info}/licenses/LICENSE").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
        assert "License-Expression: MIT" in metadata
        assert f"Version: {localllm.__version__}\n" in metadata


def test_unpacked_wheel_finds_its_catalogue(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    code = "import localllm.catalog as c; print(c.__file__); print(*(v.name for v in c.Catalog.load().all()))"
    out = run([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(tmp_path / "unpacked"))
    file, names = out.splitlines()
    assert Path(file).is_relative_to(tmp_path / "unpacked")
    assert any("smollm2" in name for name in names.split())


def test_wheel_of_the_sdist_is_the_wheel_of_the_tree(tree: Path, wheel: Path, tmp_path: Path) -> None:
    code = "import sys, setuptools.build_meta as b; b.build_sdist(sys.argv[1])"
    run([sys.executable, "-c", code, str(tmp_path)], tree)
    (sdist,) = tmp_path.glob("localllm-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    assert names_in(build_wheel(source, tmp_path)) == names_in(wheel)


@pytest.mark.parametrize("how", [[], ["--editable"]], ids=["install", "editable"])
def test_pip_install_gives_a_working_command(tree: Path, tmp_path: Path, how: list[str]) -> None:
    venv = tmp_path / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", str(venv)], tmp_path)
    folder = venv / ("Scripts" if os.name == "nt" else "bin")
    purelib = run([str(folder / "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path)
    # The dependencies are borrowed from the environment of the tests; only localllm is installed.
    Path(purelib.strip(), "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "python"), "install", "--no-deps"]
    run([*pip, "--no-build-isolation", *how, str(tree)], tmp_path)
    code = (
        "import localllm, localllm_tui; from localllm.catalog import Catalog; "
        "print(localllm.__file__); print(Catalog.load().find('smollm2:135m').name)"
    )
    where, found = run([str(folder / "python"), "-c", code], tmp_path).splitlines()
    assert Path(where).is_relative_to(tree if how else venv)
    assert found == "smollm2:135m"
    assert json.loads(run([str(folder / "localllm"), "list", "--json"], tmp_path)) == []
