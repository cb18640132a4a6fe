"""A daemon with real weights for the clients of others, and the running of a client's script in its own environment.

A test here runs one small script of `scripts/` in the clients' own Python or in node, and looks at the one JSON value
that it prints last. Without the clients the tests are skipped by name; under CI (`CI` is set) that is a failure, but
for node, which a machine may lack.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from localllm.store.describe import describe
from localllm.store.store import ModelStore
from tests.clients.install import find_node, find_node_clients, find_python_clients
from tests.conftest import find_minilm
from tests.daemon.program import REAL, Program, program

SCRIPTS = Path(__file__).parent / "scripts"
MODEL = "smollm2:135m"
EMBED_MODEL = "all-minilm"
LIMIT_S = 120
RunScript = Callable[..., Any]


@pytest.fixture(scope="session")
def embed_model() -> str:
    """EMBED_MODEL, or nothing where the machine does not have it."""
    return EMBED_MODEL if find_minilm().is_file() else ""


@pytest.fixture(scope="session")
def client_daemon(smollm2_path: Path, embed_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One daemon for all clients: MODEL in memory, EMBED_MODEL in its store where the machine has it."""
    home = tmp_path_factory.mktemp("clients-home")
    store = ModelStore(home / "store")
    install_model(store, MODEL, smollm2_path)
    if embed_model:
        install_model(store, embed_model, find_minilm())
    with contextlib.ExitStack() as stack:
        # One thread: two would wait for each other wherever something else wants a core.
        options = ("--preload", MODEL, "--ctx", "2048", "--slots", "2", "--threads", "1")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LOCALLLM_HOME", str(home))
            patch.delenv("LOCALLLM_STORE", raising=False)
            running = stack.enter_context(program(*options, command=REAL))
        yield running


def install_model(store: ModelStore, name: str, path: Path) -> None:
    """Put a file into a store under a name, without copying it where the system can link."""
    blob = store.ingest(path, digest=None, link=True)
    store.add(describe(name, f"file:{path.name}", [blob], [store.blob_path(blob.digest)]))


@pytest.fixture(scope="session")
def run_python() -> RunScript:
    """`run_python(script, *args)`: run `scripts/<script>` with the Python clients; what it printed last, as a value."""
    clients = find_python_clients()
    if clients is None:
        _miss("the Python clients are not installed: run scripts/test.py, or python tests/clients/install.py")
    python = str(clients.python)
    return lambda script, *args: _run([python, "-W", "error::ResourceWarning", str(SCRIPTS / script), *args])


@pytest.fixture(scope="session")
def run_node() -> RunScript:
    """`run_node(script, *args)`: run `scripts/<script>`, an ES module, with the npm clients; likewise.

    It is given to node on stdin, so that its imports are looked up in the clients' folder.
    """
    if find_node() is None:
        pytest.skip("no node on this machine")
    clients = find_node_clients()
    if clients is None:
        _miss("the npm clients are not installed: run scripts/test.py, or python tests/clients/install.py")
    command = ["node", "--input-type=module", "-"]
    folder = clients.node_folder
    return lambda script, *args: _run([*command, *args], folder, (SCRIPTS / script).read_text(encoding="utf-8"))


def _miss(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _run(command: list[str], folder: Path | None = None, text: str | None = None) -> Any:
    """The JSON value on the last line of what a child prints; whatever else it does fails the test."""
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        command,
        cwd=folder,
        input=text or "",
        capture_output=True,
        encoding="utf-8",
        env=environ,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
