"""The two commands on a fresh checkout: real environments, pip, signals; over a stub project, so without network."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
POSIX = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "localllm"
version = "0"
[dependency-groups]
dev = []
"""

# A build backend of its own, so that pip has nothing to fetch. STUB says how the build goes.
BACKEND = """
import os, socket, sys, zipfile
MAIN = "import json, sys\\ndef main():\\n    print(json.dumps(sys.argv[1:]))\\n    return 7\\n"
def build_editable(folder, config_settings=None, metadata_directory=None):
    how = os.environ.get("STUB", "")
    if how.startswith("port "):
        with socket.create_connection(("127.0.0.1", int(how[5:]))) as stalled:
            stalled.recv(1)
    if how == "no compiler":
        print("CMake Error: CMAKE_CXX_COMPILER not set, after EnableLanguage", flush=True)
        sys.exit(1)
    for part in range(1, 21):
        print(f"[{part}/20] compiling", flush=True)
    files = {
        "stub.py": MAIN,
        "localllm-0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: localllm\\nVersion: 0\\n",
        "localllm-0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "localllm-0.dist-info/entry_points.txt": "[console_scripts]\\nlocalllm = stub:main\\n",
    }
    with zipfile.ZipFile(os.path.join(folder, "localllm-0-py3-none-any.whl"), "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr("localllm-0.dist-info/RECORD", "".join(f"{name},,\\n" for name in files))
    return "localllm-0-py3-none-any.whl"
"""


def make_checkout(folder: Path) -> Path:
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "check out")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_checkout(tmp_path_factory.mktemp("installed"))
    assert start(folder, "--first").returncode == 7
    return folder


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PIP_NO_INDEX": "1", "STUB": "", **more}


def start(checkout: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(checkout / "scripts" / "run.py"), *arguments]
    return subprocess.run(command, env=environment(**env), capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def stalling() -> Iterator[socket.socket]:
    """A port that a stubbed build connects to and waits on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def begin(checkout: Path, stalling: socket.socket) -> subprocess.Popen[str]:
    """A start whose build will wait at the port; it leads a process group of its own."""
    command = [sys.executable, str(checkout / "scripts" / "run.py"), "begun"]
    env = environment(STUB=f"port {stalling.getsockname()[1]}")
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def test_first_start_installs_and_hands_over(checkout: Path) -> None:
    done = start(checkout, "list", "--json", "two words")
    assert json.loads(done.stdout) == ["list", "--json", "two words"]
    assert done.returncode == 7
    assert "installing localllm" in done.stderr
    assert not (checkout / ".venv" / "localllm.unfinished").exists()


def test_without_arguments_a_sample_question_is_asked(installed: Path) -> None:
    done = start(installed)
    assert json.loads(done.stdout)[:2] == ["run", "smollm2:135m"]
    assert done.stderr.startswith("$ localllm run smollm2:135m")


def test_second_start_says_nothing_and_adds_under_a_tenth_of_a_second(installed: Path) -> None:
    folder = installed / ".venv" / ("Scripts" if os.name == "nt" else "bin")

    def fastest(command: list[str]) -> float:
        times = []
        for _ in range(7):
            began = time.perf_counter()
            done = subprocess.run(command, env=environment(), capture_output=True, check=False)
            times.append(time.perf_counter() - began)
            assert (done.returncode, done.stderr) == (7, b"")
        return min(times)

    alone = fastest([str(folder / "localllm")])
    through = fastest([sys.executable, str(installed / "scripts" / "run.py"), "x"])
    assert through - alone < 0.1


def test_changed_requirements_are_installed_and_a_moved_checkout_is_made_anew(checkout: Path) -> None:
    assert start(checkout).returncode == 7
    pyproject = checkout / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + "\n# changed\n")
    changed = start(checkout)
    assert "installing localllm" in changed.stderr
    assert "making" not in changed.stderr
    moved = checkout.rename(checkout.with_name("moved"))
    done = start(moved)
    assert "of another Python or another place" in done.stderr
    assert done.returncode == 7


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL] if os.name != "nt" else [])
def test_interrupted_install_is_redone(checkout: Path, stalling: socket.socket, number: signal.Signals) -> None:
    child = begin(checkout, stalling)
    stalled, _ = stalling.accept()
    os.killpg(child.pid, number)
    _, said = child.communicate(timeout=60)
    stalled.close()
    if number == signal.SIGINT:
        assert child.returncode == 130
        assert said.rstrip().endswith("interrupted; the same command picks up again")
    done = start(checkout)
    assert "the last install was interrupted; starting over" in done.stderr
    assert done.returncode == 7
    assert start(checkout).stderr.startswith("$ localllm run")


@POSIX
def test_terminated_install_takes_pip_with_it(checkout: Path, stalling: socket.socket) -> None:
    child = begin(checkout, stalling)
    stalled, _ = stalling.accept()
    child.terminate()
    child.communicate(timeout=60)
    assert child.returncode == 130
    stalled.settimeout(60)
    assert stalled.recv(1) == b""
    stalled.close()


def test_second_start_waits_for_an_install_under_way(checkout: Path, stalling: socket.socket) -> None:
    first = begin(checkout, stalling)
    stalled, _ = stalling.accept()
    second = begin(checkout, stalling)
    assert second.stderr is not None
    assert "waiting for it" in second.stderr.readline()
    stalled.close()
    for child in (first, second):
        out, _ = child.communicate(timeout=60)
        assert json.loads(out) == ["begun"]


def test_missing_compiler_is_named(checkout: Path) -> None:
    done = start(checkout, STUB="no compiler")
    assert done.returncode == 1
    assert "error: no working C and C++ compiler was found" in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_no_network_is_named(checkout: Path) -> None:
    pyproject = checkout / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace("requires = []", 'requires = ["localllm-needs-the-index"]'))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        index = f"http://127.0.0.1:{closed.getsockname()[1]}/simple"
        done = start(checkout, PIP_NO_INDEX="0", PIP_INDEX_URL=index, PIP_EXTRA_INDEX_URL="", PIP_RETRIES="1")
    assert done.returncode == 3
    assert "error: the package index cannot be reached" in done.stderr


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "bootstrap"]:
        del sys.modules[name]


@pytest.mark.usefixtures("bootstrap")
def test_an_environment_without_ensurepip_gets_pip_from_this_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ensurepip

    bundled = Path(ensurepip.__file__).parent / "_bundled"
    if not bundled.is_dir():
        pytest.skip("this Python carries no pip wheel of its own")
    from bootstrap import installer

    has = installer._has
    monkeypatch.setattr(installer, "_has", lambda module: module != "ensurepip" and has(module))
    monkeypatch.setattr(installer, "venv_program", lambda name: tmp_path / "venv" / "bin" / name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(bundled))
    installer.make_venv(tmp_path / "venv")
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([str(python), "-c", "import pip"], check=True)


@pytest.mark.usefixtures("bootstrap")
def test_old_python_is_named_before_anything_is_made() -> None:
    from bootstrap import SetupError, check_python

    with pytest.raises(SetupError, match=r"this is Python 3.9; localllm needs 3.11 or later") as caught:
        check_python((3, 9))
    assert caught.value.status == 2
    check_python((3, 11))


@pytest.mark.parametrize("path", sorted((ROOT / "scripts" / "bootstrap").glob("*.py")), ids=lambda path: path.name)
def test_bootstrap_parses_on_old_pythons(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 7))


@pytest.mark.usefixtures("bootstrap")
@pytest.mark.parametrize(
    ("line", "platform", "message", "hint"),
    [
        ("CMake Error: CMAKE_C_COMPILER not set", "linux", "compiler", "build-essential"),
        ("xcrun: error: invalid active developer path", "darwin", "compiler", "xcode-select --install"),
        ("could not find any instance of Visual Studio.", "win32", "compiler", "Build Tools"),
        ("g++: fatal error: Killed signal terminated program cc1plus", "linux", "memory", "PARALLEL_LEVEL=1"),
        ("ERROR: Could not install: [Errno 28] No space left on device", "linux", "disk is full", "TMPDIR"),
        ("SSLError(SSLCertVerificationError('CERTIFICATE_VERIFY_FAILED'))", "linux", "certificate", "global.cert"),
        ("[Errno -3] Temporary failure in name resolution", "linux", "cannot be reached", "pip config list"),
        ("ERROR: No matching distribution found for msgspec>=0.19", "linux", "no msgspec>=0.19", "configured index"),
    ],
)
def test_causes_are_named(line: str, platform: str, message: str, hint: str) -> None:
    from bootstrap import diagnosis

    found = diagnosis.explain(["Collecting x", line, "ERROR: Failed building wheel"], platform)
    assert found is not None
    assert message in str(found)
    assert hint in found.hint
    assert diagnosis.explain(["Collecting x", "ERROR: something else"], platform) is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("bootstrap")
def test_progress_is_one_line_on_a_terminal_and_a_line_a_tenth_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from bootstrap.progress import Progress

    monkeypatch.setenv("TERM", "xterm")
    file, terminal = io.StringIO(), Terminal()
    for stream in (file, terminal):
        with Progress(stream) as progress:
            progress.step("compiling")
            for done in range(1, 201):
                progress.count(done, 200)
    assert len(file.getvalue().splitlines()) == 11
    assert file.getvalue().endswith("compiling: 200 of 200\n")
    assert "\n" not in terminal.getvalue()
    assert terminal.getvalue().count("\r") > 200


def real_script(name: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A script of this checkout in its own environment; one that is not current is not touched by a test."""
    ready = subprocess.run(
        [sys.executable, "-c", "import bootstrap, sys; sys.exit(not bootstrap.is_ready(True))"],
        cwd=ROOT / "scripts",
        check=False,
    )
    if ready.returncode:
        pytest.skip(".venv is not current: run scripts/test.py")
    rest = {key: value for key, value in os.environ.items() if key not in {"CI", "LOCALLLM_TEST_MODEL"}}
    command = [sys.executable, str(ROOT / "scripts" / name), *arguments]
    return subprocess.run(command, env={**rest, **env}, capture_output=True, text=True, timeout=120, check=False)


def test_missing_weights_skip_tests_but_fail_under_ci() -> None:
    collect = ("--collect-only", "-q", "tests/test_docs.py")
    allowed = real_script("test.py", *collect, LOCALLLM_OFFLINE="1")
    assert allowed.returncode == 0, allowed.stderr
    assert "the tests that need it are skipped" in allowed.stderr
    assert "tests/test_docs.py" in allowed.stdout
    refused = real_script("test.py", *collect, LOCALLLM_OFFLINE="1", CI="1")
    assert refused.returncode == 1
    assert "error: no smollm2:135m" in refused.stderr
    assert refused.stdout == ""


def test_check_prints_a_line_a_check_and_refuses_unknown_names() -> None:
    done = real_script("check.py", "imports")
    assert done.returncode == 0, done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok", "1"]
    unknown = real_script("check.py", "nonsense")
    assert unknown.returncode == 2
    assert "format, lint, mypy" in unknown.stderr


@pytest.mark.usefixtures("bootstrap")
def test_the_lines_of_pip_and_ninja_become_progress() -> None:
    from bootstrap import installer
    from bootstrap.progress import Progress

    out = io.StringIO()
    with Progress(out) as progress:
        for line in (
            "  Downloading llama_cpp_python-0.3.36.tar.gz (76.6 MB)",
            "  Downloading idna-3.20-py3-none-any.whl (70 kB)",
            "  Building wheel for llama-cpp-python (pyproject.toml): started",
            "  [1/20] /usr/bin/g++ -c a.cpp",
            "  [19/20] /usr/bin/g++ -c b.cpp",
            "  [ 100%] Built target llama",
            "Installing collected packages: numpy, localllm",
        ):
            installer._show(line, progress)
    words = [line.split("  ")[-1] for line in out.getvalue().splitlines()]
    assert words[0] == "downloading llama_cpp_python-0.3.36.tar.gz (76.6 MB)"
    assert words[1].startswith("llama.cpp is now compiled")
    assert words[2:] == [
        "compiling llama.cpp",
        "compiling llama.cpp: 19 of 20",
        "compiling llama.cpp: 100 of 100",
        "installing packages",
    ]
