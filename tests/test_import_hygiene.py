"""What starting up may not load: each case in an interpreter of its own, asked afterwards what it has loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "llama_cpp",
    "numpy",
    "gguf",
    "textual",
    "localllm_tui",
    "starlette",
    "uvicorn",
    "httpx",
    "jinja2",
    "prompt_toolkit",
}
# What the parent of an engine child may load in time, but never to start one.
ENGINE_ONLY = {"llama_cpp", "numpy", "jinja2", "gguf", "textual", "starlette", "uvicorn"}

HELP = """
from localllm.cli import main
sys.argv = ["localllm", *{arguments!r}]
try:
    code = main()
except SystemExit as exc:
    code = exc.code
assert not code, code
"""


def loaded_by(code: str) -> set[str]:
    """Top-level modules in memory after `code`, in a fresh interpreter."""
    script = f"import sys\n{code}\nprint('\\n@', *sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rsplit("@", 1)[1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["chat", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    heavy = HEAVY - ({"llama_cpp"} if arguments == ["--version"] else set())
    assert not loaded_by(HELP.format(arguments=arguments)) & heavy


def test_import_localllm_is_cheap() -> None:
    assert not loaded_by("import localllm") & (HEAVY | {"typer", "rich", "msgspec"})


@pytest.mark.parametrize("module", ["localllm.service", "localllm.engine.process"])
def test_the_parent_of_an_engine_never_loads_the_engine(module: str) -> None:
    assert not loaded_by(f"import {module}") & ENGINE_ONLY


def test_the_measure_itself_sees_a_heavy_import() -> None:
    assert "numpy" in loaded_by("import numpy")
