"""The checkout's virtual environment: made, filled, repaired. Shared by run.py, test.py and check.py.

Owns `.venv`, its stamp and its lock. Standard library only, since nothing is installed yet; must not import localllm.
The syntax stays readable for Python 3.7, so that a too old Python gets a sentence and not a SyntaxError. What only an
install needs is imported when there is one: a start that finds the environment ready costs a hash and an exec.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from bootstrap.outcome import EXIT_USAGE, SetupError, guarded, say

__all__ = [
    "ROOT",
    "VENV",
    "SetupError",
    "check_python",
    "ensure",
    "guarded",
    "hand_over",
    "is_ready",
    "say",
    "venv_program",
]

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / ".venv"
OLDEST_PYTHON = (3, 11)

_PYPROJECT = ROOT / "pyproject.toml"
_STAMP = VENV / "localllm.stamp"
# Written before an install begins and removed when it ends: found at a start, the last install was cut short.
_UNFINISHED = VENV / "localllm.unfinished"


def venv_program(name: str) -> Path:
    """Where the environment keeps the command `name` on this system."""
    return VENV / "Scripts" / f"{name}.exe" if os.name == "nt" else VENV / "bin" / name


def is_ready(dev: bool) -> bool:
    """Whether the last install ended well, and was of this pyproject.toml, in this place, by this version of Python."""
    try:
        stamp = _STAMP.read_text()
        current = stamp == _stamp(True) or (not dev and stamp == _stamp(False))
        return current and venv_program("localllm").exists() and not _UNFINISHED.exists()
    except OSError:
        return False


def ensure(dev: bool = False) -> None:
    """Have `.venv` with localllm installed as editable, and its development tools if `dev`. Raises SetupError."""
    if is_ready(dev):
        return
    check_python(sys.version_info[:2])
    from bootstrap import lock

    with lock.hold(ROOT / ".venv.lock", lambda: say("another start is installing; waiting for it")) as file:
        if not is_ready(dev):
            _build(dev, file.fileno())


def _build(dev: bool, lock_fd: int) -> None:
    from bootstrap import installer

    # An environment that somebody else made is filled, but not thrown away when that is interrupted.
    ours = not VENV.exists() or _STAMP.exists() or _UNFINISHED.exists()
    if _UNFINISHED.exists():
        say("the last install was interrupted; starting over")
        installer.wipe(VENV)
    elif VENV.exists() and not installer.fits(VENV):
        say(f"{VENV} is of another Python or another place; making a new one")
        installer.wipe(VENV)
    VENV.mkdir(exist_ok=True)
    if ours:
        _UNFINISHED.touch()
    if _STAMP.exists():
        _STAMP.unlink()
    if not venv_program("python").exists():
        say(f"making {VENV}")
        installer.make_venv(VENV)
    installer.install(VENV, ROOT, _dev_requirements() if dev else [], lock_fd)
    _STAMP.write_text(_stamp(dev))
    if ours:
        _UNFINISHED.unlink()


def _stamp(dev: bool) -> str:
    place = f"{sys.version_info[0]}.{sys.version_info[1]} {sys.platform} {ROOT}"
    key = hashlib.sha256(_PYPROJECT.read_bytes() + place.encode()).hexdigest()
    return f"{key} {'dev' if dev else 'run'}\n"


def _dev_requirements() -> list[str]:
    import tomllib

    groups: dict[str, list[str]] = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["dependency-groups"]
    return groups["dev"]


def check_python(version: tuple[int, ...]) -> None:
    """Raise SetupError when `version` is older than localllm runs on, naming a newer Python if one is on PATH."""
    if version >= OLDEST_PYTHON:
        return
    import shutil

    oldest = ".".join(map(str, OLDEST_PYTHON))
    newer = next((name for name in (f"python3.{minor}" for minor in range(16, 10, -1)) if shutil.which(name)), None)
    hint = f"{newer} is on this machine: run this command with it" if newer else "see https://www.python.org/downloads/"
    found = ".".join(map(str, version))
    raise SetupError(f"this is Python {found}; localllm needs {oldest} or later", hint, EXIT_USAGE)


def hand_over(program: Path, arguments: list[str]) -> None:
    """Become `program`, so that signals, terminal and exit status are its own. Does not return."""
    if os.name != "nt":
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(program, [str(program), *arguments])
    import subprocess

    # Windows cannot replace a process: stay as a parent that Ctrl-C passes by.
    child = subprocess.Popen([str(program), *arguments])
    while True:
        try:
            sys.exit(child.wait())
        except KeyboardInterrupt:
            continue
