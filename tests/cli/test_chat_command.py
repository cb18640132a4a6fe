"""`localllm chat` as a command: what it refuses, what it opens, and how it ends with its terminal."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.api import LoadOptions
from localllm.cli.chat_web import child_command
from localllm.config import Settings
from localllm.daemon.run import ServeOptions
from tests.cli.running import COMMAND, localllm
from tests.daemon.serving import ScriptedBackend, serving


def test_without_a_terminal_that_is_said_and_nothing_is_drawn() -> None:
    ran = localllm("chat")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.splitlines() == [
        "error: the chat needs a terminal",
        'hint: localllm run MODEL "a question" answers without one',
    ]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--continue", "--new"], "exclude each other"),
        (["--new", "--conversation", "3"], "exclude each other"),
        (["--port", "80"], "--port goes with --web"),
        (["--key-file", "f"], "--key-file goes with --url"),
        (["--url", "nowhere"], "no address of a daemon"),
        (["--url", "http://127.0.0.1:1", "--local"], "--local and --url exclude each other"),
        (["--url", "http://127.0.0.1:1", "--ctx", "99"], "--ctx and --url exclude each other"),
        (["--url", "http://127.0.0.1:1", "--key-file", "absent"], "cannot be read"),
        (["--temperature", "-1"], "temperature"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_is_said_before_anything_starts(args: list[str], words: str) -> None:
    ran = localllm("chat", *args)
    assert ran.returncode == 2
    assert words in ran.stderr


def test_broken_settings_of_the_chat_are_named(private_home: Path) -> None:
    private_home.mkdir()
    (private_home / "chat.toml").write_text("theme = 5\n")
    ran = localllm("chat")
    assert ran.returncode == 2
    assert "chat.toml" in ran.stderr
    assert "theme" in ran.stderr


def test_the_command_of_a_page_is_the_same_without_its_web() -> None:
    command = child_command(["chat", "a model", "--web", "--port", "80", "-p", "81", "--port=82", "--system", "it's"])
    assert command.endswith(""" -m localllm chat 'a model' --system 'it'"'"'s'""") or os.name == "nt"


if sys.platform != "win32":
    import pty
    import termios

    from tests.cli.terminal import Terminal

    class Owner(Terminal):
        """A terminal that is its child's controlling one, so that `/dev/tty` is it; standard input is a pipe."""

        def __init__(self, piped: str) -> None:
            own, child = pty.openpty()
            termios.tcsetwinsize(own, (40, 120))
            self._fd = own
            self.raw = ""
            take = f"import fcntl, os, termios; os.setsid(); fcntl.ioctl({child}, termios.TIOCSCTTY, 0)"
            become = f"{take}; os.execv({COMMAND[0]!r}, {[*COMMAND, 'chat']!r})"
            self._process = subprocess.Popen(
                [sys.executable, "-c", become],
                stdin=subprocess.PIPE,
                stdout=child,
                stderr=child,
                env={**os.environ, "TERM": "xterm-256color"},
                pass_fds=[child],
            )
            os.close(child)
            assert self._process.stdin is not None
            self._process.stdin.write(piped.encode())
            self._process.stdin.close()

    @pytest.fixture
    def terminal() -> Iterator[Terminal]:
        with Terminal([*COMMAND, "chat"], env={"TERM": "xterm-256color"}) as terminal:
            yield terminal

    def ask(terminal: Terminal) -> None:
        terminal.wait_for("sk anything")
        terminal.type("sampling")
        terminal.wait_for("sampling")
        terminal.type("\r")
        terminal.wait_for("SamplingParams")

    def test_it_opens_answers_and_leaves(terminal: Terminal) -> None:
        ask(terminal)
        terminal.type("\x11")
        assert terminal.wait() == 0
        assert "Traceback" not in terminal.text

    def test_it_ends_when_its_terminal_does_without_a_word(terminal: Terminal) -> None:
        ask(terminal)
        os.close(terminal._fd)
        terminal._fd = os.open(os.devnull, os.O_RDWR)
        deadline = time.monotonic() + 15
        while terminal._process.poll() is None:
            assert time.monotonic() < deadline, "it goes on without a terminal"
            time.sleep(0.05)

    def test_what_is_piped_in_waits_in_the_prompt_and_keys_come_from_the_terminal() -> None:
        with Owner("some piped text\n" * 3) as terminal:
            terminal.wait_for("standard input")
            terminal.type("Wuthering")
            terminal.wait_for("Wuthering")
            terminal.type("\x11")
            assert terminal.wait() == 0

    def test_it_asks_a_daemon_elsewhere_with_the_key_of_a_file(tmp_path: Path) -> None:
        key = "a-key-of-some-length"
        (tmp_path / "key").write_text(f"# mine\nme = {key}\n")
        (tmp_path / "keys").write_text(f"me = sha256:{hashlib.sha256(key.encode()).hexdigest()}\n")
        options = ServeOptions(host="127.0.0.1", port=0, default_model="smollm2:135m", key_file=tmp_path / "keys")
        backend = ScriptedBackend(Settings(), LoadOptions())
        with serving(backend, options) as daemon:
            args = ["--url", daemon.url, "--key-file", str(tmp_path / "key")]
            command = [sys.executable, "-m", "localllm", "chat", *args]
            with Terminal(command, env={"TERM": "xterm-256color"}) as terminal:
                ask(terminal)
                os.kill(terminal._process.pid, signal.SIGTERM)
                terminal.wait()
            assert backend.begun.is_set()
