"""Makes a virtual environment and has pip fill it, with progress. Standard library only; knows nothing of stamps.

pip is left to its own configuration: index, proxies and certificates are the user's, none is named here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bootstrap import diagnosis, venv_program
from bootstrap.outcome import SetupError, say
from bootstrap.progress import Progress

_COMPILE_NOTE = "llama.cpp is now compiled for this machine, once; on 2 cores that takes about 3 minutes"
_COMPILE = re.compile(r"^\s*Building wheel for (?:llama-cpp-python|llama_cpp_python) .*started")

_STEPS = (
    (re.compile(r"^\s*Downloading (\S+) \((.+? [MG]B)\)"), "downloading {0} ({1})"),
    (_COMPILE, "compiling llama.cpp"),
    (re.compile(r"^Installing collected packages: (.+)"), "installing packages"),
)
_NINJA = re.compile(r"^\s*\[(\d+)/(\d+)\] ")
_MAKE = re.compile(r"^\s*\[ *(\d+)%\] ")


def wipe(venv: Path) -> None:
    """Delete the environment, so that the next one starts clean."""
    try:
        shutil.rmtree(venv)
    except OSError as exc:
        raise SetupError(f"{venv} cannot be removed: {exc}", "close what runs from it, or delete it by hand") from exc


def fits(venv: Path) -> bool:
    """Whether the environment was made here, by this version of Python, and its Python still starts."""
    try:
        config = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return False
    settings = dict(line.split(" = ", 1) for line in config.splitlines() if " = " in line)
    ours = "{}.{}".format(*sys.version_info[:2])
    if ".".join(settings.get("version", "").split(".")[:2]) != ours or not venv_program("python").exists():
        return False
    # Console scripts carry absolute paths: an environment that was moved with its checkout is made anew.
    probe = "import sys, pip; print(sys.prefix)"
    done = subprocess.run([str(venv_program("python")), "-c", probe], capture_output=True, text=True, check=False)
    return done.returncode == 0 and Path(done.stdout.strip()) == venv and _scripts_point_to(venv)


def _scripts_point_to(venv: Path) -> bool:
    script = venv_program("pip")
    return os.name == "nt" or not script.exists() or str(venv).encode() in script.read_bytes()[:1024]


def make_venv(venv: Path) -> None:
    """Create the environment with pip in it; where Debian left `ensurepip` out, by the pip that runs this Python."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    if _has("venv") and _has("ensurepip"):
        _call([base, "-m", "venv", str(venv)])
    elif _has("venv") and _has("pip"):
        _call([base, "-m", "venv", "--without-pip", str(venv)])
        _call([base, "-m", "pip", "--python", str(venv_program("python")), "install", "--quiet", "pip"])
    else:
        raise SetupError(
            "this Python cannot make virtual environments (its venv or ensurepip module is missing)",
            "Debian and Ubuntu: sudo apt install python3-venv; elsewhere: reinstall Python with all its modules",
        )


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        raise diagnosis.explain(lines) or SetupError(f"{' '.join(command)} failed", "\n".join(lines[-8:]))


def install(venv: Path, root: Path, extra: list[str], lock: int) -> None:
    """Have pip install the checkout as editable, and the `extra` requirements with it.

    pip inherits the file descriptor `lock`: should this process be killed, the environment stays locked until pip ends.
    """
    command = [str(venv_program("python")), "-m", "pip", "install", "-v", "--editable", str(root), *extra]
    log = venv / "install.log"
    say(f"installing localllm and what it needs (log: {log})")
    with log.open("w", encoding="utf-8") as file, Progress(sys.stderr) as progress, _running(command, lock) as child:
        assert child.stdout is not None
        for line in child.stdout:
            file.write(line)
            _show(line, progress)
        status = child.wait()
    if status:
        raise _failure(log, status)


def _show(line: str, progress: Progress) -> None:
    compiled = _NINJA.match(line)
    if compiled:
        progress.count(int(compiled[1]), int(compiled[2]))
        return
    percent = _MAKE.match(line)
    if percent:
        progress.count(int(percent[1]), 100)
        return
    if _COMPILE.match(line):
        progress.announce(_COMPILE_NOTE)
    for pattern, text in _STEPS:
        found = pattern.match(line)
        if found:
            progress.step(text.format(*found.groups()))


@contextlib.contextmanager
def _running(command: list[str], lock: int) -> Iterator[subprocess.Popen[str]]:
    """pip as a child that, with the compilers it started, ends before this block does, however that is left."""
    windows = sys.platform == "win32"
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=_environment(),
        start_new_session=True,
        pass_fds=() if windows else (lock,),
    )
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield child
    finally:
        signal.signal(signal.SIGTERM, before)
        if child.poll() is None:
            _kill_tree(child)
        if child.stdout is not None:
            child.stdout.close()


def _kill_tree(child: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(child.pid)], capture_output=True, check=False)
    else:
        # As Ctrl-C would reach it: compilers stop and pip removes its build folder, some hundred megabytes.
        os.killpg(child.pid, signal.SIGINT)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _environment() -> dict[str, str]:
    # A user-wide `pip config set install.user true` would fail in an environment; a prompt would hang behind the pipe.
    wanted = {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **wanted}


def _failure(log: Path, status: int) -> SetupError:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    known = diagnosis.explain(lines)
    for line in [line for line in lines if line.strip()][-12:]:
        say("  " + line.strip()[:200])
    say(f"  (all of it: {log})")
    return known or SetupError(f"pip ended with status {status}", f"read {log}, then run this again")
