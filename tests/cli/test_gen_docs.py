"""The generated pages are current, and a stale one is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def gen_docs(root: Path, *args: str) -> subprocess.CompletedProcess[str]:
    script = root / "scripts" / "gen_docs.py"
    return subprocess.run([sys.executable, str(script), *args], capture_output=True, text=True, check=False, timeout=60)


def test_the_pages_are_current() -> None:
    ran = gen_docs(ROOT, "--check")
    assert (ran.returncode, ran.stdout) == (0, "")


def test_a_stale_page_is_found_and_mended(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "localllm", tmp_path / "localllm", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "gen_docs.py", tmp_path / "scripts")
    page = tmp_path / "docs" / "cli.md"
    page.write_text(page.read_text(encoding="utf-8").replace("localllm run", "localllm walk"), encoding="utf-8")
    stale = gen_docs(tmp_path, "--check")
    assert stale.returncode == 1
    assert stale.stdout == "docs/cli.md is stale: run python3 scripts/gen_docs.py\n"
    assert gen_docs(tmp_path).returncode == 0
    assert gen_docs(tmp_path, "--check").returncode == 0
    assert page.read_bytes() == (ROOT / "docs" / "cli.md").read_bytes()
    assert gen_docs(tmp_path, "--nonsense").returncode == 2


def test_every_command_and_setting_is_on_its_page() -> None:
    from localllm.cli.app import build_command
    from localllm.config import Settings

    cli = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    config = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert all(f"\n## {name}\n" in cli for name, command in build_command().commands.items() if not command.hidden)
    assert all(f"| `{name}` |" in config for name in Settings.__struct_fields__)
