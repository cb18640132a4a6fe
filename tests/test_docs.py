"""The hand-written pages against the tree: what they name exists, and what exists at the top is named."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
# A path in a page is read from the root, or from one of these, where prose would repeat itself otherwise.
STARTS = (ROOT, ROOT / "localllm", ROOT / "localllm" / "engine", ROOT / "tests", ROOT / "scripts")


def read_tree(readme: str) -> Iterator[tuple[Path, str]]:
    """Paths and comments of the README's tree: the code block under "## The tree", two spaces a level."""
    block = readme.split("## The tree", 1)[1].split("```")[1]
    parents: list[str] = []
    for line in block.strip("\n").splitlines():
        names, _, comment = line.partition("  # ") if "  # " in line else (line, "", "")
        depth = (len(line) - len(line.lstrip())) // 2
        for name in names.split():
            yield ROOT.joinpath(*parents[:depth], name), comment.strip()
        parents[depth:] = [names.split()[0].rstrip("/")]


def tree() -> dict[Path, str]:
    return dict(read_tree((ROOT / "README.md").read_text(encoding="utf-8")))


def test_readme_tree_names_what_exists_and_says_what_it_is() -> None:
    named = tree()
    assert [str(path) for path in named if not path.exists()] == []
    assert [str(path) for path, comment in named.items() if not comment] == []


def test_readme_tree_names_every_module_of_the_package_and_every_folder() -> None:
    named = set(tree())
    package = ROOT / "localllm"
    modules = {path for path in package.glob("*.py") if path.name != "__init__.py"} | {package / "__init__.py"}
    folders = {path for path in package.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    top = {path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))}
    ignored = {ROOT / name for name in ("build", "dist")} | set(ROOT.glob("*.egg-info"))
    assert sorted(map(str, (modules | folders | top) - ignored - named)) == []


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_of_a_page_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    paths = re.findall(r"`((?:[\w.]+/)*[\w.]+\.(?:py|md|toml)|(?:[\w.]+/)+)`", text)
    missing = [name for name in {*links, *paths} if not any((start / name).exists() for start in STARTS)]
    assert missing == []


@pytest.mark.weights
def test_library_example_of_the_readme_runs(smollm2_path: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.gguf"
    weights.symlink_to(smollm2_path)
    (example,) = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    code = example.replace("smollm2:135m", weights.as_posix())
    assert code != example
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 20
