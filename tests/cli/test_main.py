"""The entry: exit codes, what is said on failure, what starting up costs, and what ends the command early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from localllm.cli import main
from tests.cli.running import COMMAND, localllm


def test_without_arguments_the_help_is_shown() -> None:
    ran = localllm()
    assert ran.returncode == 0
    assert ran.stdout == localllm("--help").stdout
    for command in ("run", "pull", "list", "show", "rm", "cp", "adopt", "verify", "prune", "search", "doctor", "bench"):
        assert f"\n  {command} " in ran.stdout


def test_version_names_llama_cpp() -> None:
    ran = localllm("--version")
    assert ran.returncode == 0
    assert ran.stdout.startswith("localllm 0.")
    assert "llama.cpp 0." in ran.stdout
    assert "llama-cpp-python 0.3.36" in ran.stdout


def test_help_is_quick() -> None:
    def seconds() -> float:
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", "from localllm.cli import main; main(['--help'])"], capture_output=True, check=True
        )
        return time.perf_counter() - started

    # The bar is 0.25 s on a quiet machine; twice that is a mistake and no noise.
    assert min(seconds() for _ in range(5)) < 0.5


@pytest.mark.parametrize(
    ("args", "code", "error", "hint"),
    [
        (["run", "smollm2:135m", "echo hi"], 0, None, None),
        (["run", "smollm2:135m", "fail"], 3, "the engine died", "ask again"),
        (["run", "nothing", "x"], 1, "no model nothing", "`localllm search` lists some"),
        (["run", "unreachable", "x"], 3, "no source answered", "try again later"),
        (["run", "new", "x", "--offline"], 1, "new is not here", "leave out --offline"),
        (["run", "smollm2:135m", "x", "-t", "-1"], 2, "temperature is -1.0", "temperature lies between 0 and 100"),
        (["run", "smollm2:135m", "x", "-c", "0"], 2, "on the command line: num_ctx cannot be 0", None),
        (["rnu"], 2, "no such command 'rnu'", "did you mean run? `localllm --help` shows what it takes"),
        (["run", "--sytem", "x"], 2, "no such option: --sytem", "did you mean --system? `localllm run --help`"),
        (["run", "smollm2:135m", "x", "--top-k", "many"], 2, "", "`localllm run --help` shows what it takes"),
        (["rm"], 2, "missing argument 'MODEL...'", "`localllm rm --help` shows what it takes"),
        (["list", "superfluous"], 2, "got unexpected extra argument", None),
        (["show", "-x"], 2, "no such option: -x", None),
        (["run", "smollm2:135m"], 2, "nothing to ask: no prompt, and standard input is empty", "localllm run MODEL"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_exit_codes_and_what_is_said(args: list[str], code: int, error: str | None, hint: str | None) -> None:
    ran = localllm(*args)
    assert ran.returncode == code, ran.stderr
    if error is None:
        assert ran.stderr == ""
    else:
        first, *rest = ran.stderr.splitlines()
        assert first.startswith(f"error: {error}")
        assert not first.endswith(".")
        assert "Traceback" not in ran.stderr
        if hint is not None:
            assert rest[0].startswith(f"hint: {hint}")


def test_a_wrong_setting_is_an_error_of_usage(private_home: Path) -> None:
    private_home.mkdir()
    (private_home / "config.toml").write_text("num_ctxx = 5\n")
    ran = localllm("list")
    assert ran.returncode == 2
    assert f"error: {private_home / 'config.toml'}:1: unknown setting 'num_ctxx'" in ran.stderr
    assert "hint: did you mean 'num_ctx'?" in ran.stderr


def test_a_bug_is_one_line_and_the_traceback_is_to_be_had() -> None:
    ran = localllm("run", "smollm2:135m", "bug")
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[0] == "error: unexpected RuntimeError: a bug in the program"
    assert "hint: LOCALLLM_DEBUG=1" in ran.stderr
    assert "Traceback" not in ran.stderr
    shown = localllm("run", "smollm2:135m", "bug", env={"LOCALLLM_DEBUG": "1"})
    assert shown.returncode == 1
    assert "Traceback" in shown.stderr


def test_main_returns_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no-such-command"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    with subprocess.Popen(
        [*COMMAND, "run", "smollm2:135m", "slow"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.read(5) == b"word0"
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(20) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_said() -> None:
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [*COMMAND, "list", "--json"],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: ")
    assert "No space left" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr


def test_closed_standard_streams_do_no_harm() -> None:
    if sys.platform == "win32":
        pytest.skip("a POSIX shell closes them")
    command = " ".join(f"'{word}'" for word in [*COMMAND, "list"])
    ran = subprocess.run(["sh", "-c", f"{command} >&- 2>&- <&-"], check=False, timeout=60)
    assert ran.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="a console event there")
def test_ctrl_c_stops_the_answer_with_130() -> None:
    with subprocess.Popen(
        [*COMMAND, "run", "smollm2:135m", "hang"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.read(7) == b"waiting"
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == b"\n"
        assert b"Traceback" not in child.stderr.read()
        assert child.wait(20) == 130


def test_what_an_encoding_lacks_does_no_harm() -> None:
    ran = localllm("run", "smollm2:135m", "echo naïve 你好", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert ran.returncode == 0
    assert ran.stdout == "na?ve ??\n"


def test_a_completion_script_is_to_be_had() -> None:
    ran = localllm("--show-completion", "bash", env={"SHELL": "/bin/bash"})
    assert "_LOCALLLM_COMPLETE" in ran.stdout
