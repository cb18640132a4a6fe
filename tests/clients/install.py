"""Clients of others for the tests: a virtual environment and an npm folder of their own, in the user's cache.

    python tests/clients/install.py        bring both up to date; the last line is their folder

Their packages want versions that our own environment must not care about. What is installed is what
`requirements.txt` and `package.json` say; a change there is installed on top of what is here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
PACKAGE = HERE / "package.json"
_STAMP = "installed"


@dataclass(frozen=True, slots=True)
class Clients:
    """Where the clients are: the Python that has them, and the folder with `node_modules`."""

    folder: Path

    @property
    def python(self) -> Path:
        """The interpreter of the environment."""
        inside = "Scripts/python.exe" if os.name == "nt" else "bin/python"
        return self.folder / "venv" / inside

    @property
    def node_folder(self) -> Path:
        """Where `node` finds the packages."""
        return self.folder / "npm"


def clients_folder() -> Path:
    """Where the clients lie, or would: one folder for each version of Python."""
    import platformdirs

    cache = platformdirs.user_cache_path("localllm", appauthor=False)
    return cache / "test-clients" / f"py{sys.version_info[0]}.{sys.version_info[1]}"


def find_python_clients() -> Clients | None:
    """The Python clients, if those that are wanted are installed."""
    clients = Clients(clients_folder())
    return clients if _is_current(clients.folder / "venv", REQUIREMENTS) else None


def find_node_clients() -> Clients | None:
    """The npm clients, if those that are wanted are installed and there is a node to run them."""
    clients = Clients(clients_folder())
    return clients if find_node() and _is_current(clients.node_folder, PACKAGE) else None


def find_node() -> str | None:
    """The `node` program."""
    return shutil.which("node")


def install() -> Clients:
    """Have all clients. Raises CalledProcessError; the installer's own words are on stderr. No npm ones without npm."""
    clients = Clients(clients_folder())
    clients.folder.mkdir(parents=True, exist_ok=True)
    if find_python_clients() is None:
        if not clients.python.exists():
            _run([sys.executable, "-m", "venv", str(clients.folder / "venv")])
        _run([str(clients.python), "-m", "pip", "install", "-qq", "-r", str(REQUIREMENTS)])
        _stamp(clients.folder / "venv", REQUIREMENTS)
    npm = shutil.which("npm")
    if npm is None or find_node() is None:
        print("no node and npm: the npm clients are not installed", file=sys.stderr)
    elif find_node_clients() is None:
        clients.node_folder.mkdir(exist_ok=True)
        shutil.copyfile(PACKAGE, clients.node_folder / "package.json")
        _run(
            [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=clients.node_folder
        )
        _stamp(clients.node_folder, PACKAGE)
    return clients


def _run(command: list[str], cwd: Path | None = None) -> None:
    print("$ " + " ".join(command), file=sys.stderr)
    subprocess.run(command, cwd=cwd, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def _is_current(folder: Path, wanted: Path) -> bool:
    try:
        return (folder / _STAMP).read_text() == _digest(wanted)
    except OSError:
        return False


def _stamp(folder: Path, wanted: Path) -> None:
    (folder / _STAMP).write_text(_digest(wanted))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    try:
        print(install().folder)
    except subprocess.CalledProcessError as exc:
        sys.exit(exc.returncode or 1)
