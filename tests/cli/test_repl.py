"""The REPL as a person meets it: a real terminal, real keys, real Ctrl-C."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX", allow_module_level=True)

from tests.cli.running import COMMAND
from tests.cli.terminal import Terminal

MODEL = "smollm2:135m"
PROMPT = ">>>"


@pytest.fixture
def repl() -> Iterator[Terminal]:
    with Terminal([*COMMAND, "run", MODEL]) as terminal:
        terminal.wait_for("is ready")
        terminal.wait_for(PROMPT)
        yield terminal


def ask(terminal: Terminal, typed: str, expected: str) -> None:
    """Type a line, wait for what it brings and for the next prompt."""
    start = len(terminal.text)
    terminal.type(typed + "\r")
    at = terminal.wait_for(typed + "\n", after=start)
    if expected:
        at = terminal.wait_for(expected, after=at)
    terminal.wait_for(PROMPT, after=at)


def leave(terminal: Terminal) -> None:
    terminal.type("/bye\r")
    assert terminal.wait() == 0


def test_a_conversation_keeps_its_turns(repl: Terminal) -> None:
    ask(repl, "echo one", "one\n")
    ask(repl, "messages", "user=echo one | assistant=one | user=messages")
    leave(repl)


def test_many_lines_between_quotes_and_with_alt_enter(repl: Terminal) -> None:
    start = len(repl.text)
    repl.type('"""first\r')
    repl.wait_for("...", after=start)
    repl.type('second"""\r')
    at = repl.wait_for("you said: first\nsecond\n", after=start)
    repl.wait_for(PROMPT, after=at)
    repl.type("third\x1b\rfourth\r")
    repl.wait_for("you said: third\nfourth\n", after=at)
    leave(repl)


def test_ctrl_c_stops_the_answer_only(repl: Terminal) -> None:
    start = len(repl.text)
    repl.type("slow\r")
    repl.wait_for("word3", after=start)
    repl.interrupt()
    at = repl.wait_for("(stopped)", after=start)
    repl.wait_for(PROMPT, after=at)
    assert "word499" not in repl.text
    ask(repl, "messages", "user=slow | assistant=word0 word1")
    leave(repl)


def test_ctrl_c_before_any_answer_gives_the_question_back(repl: Terminal) -> None:
    ask(repl, "echo x", "x\n")
    start = len(repl.text)
    repl.type("fail now\r")
    at = repl.wait_for("hint: ask again", after=start)
    repl.wait_for(">>> fail now", after=at)
    repl.type("\x15")
    ask(repl, "messages", "user=echo x | assistant=x | user=messages")
    leave(repl)


def test_ctrl_c_clears_what_is_typed_and_leaves_from_an_empty_line(repl: Terminal) -> None:
    repl.type("some text")
    repl.wait_for("some text")
    repl.type("\x03")
    ask(repl, "echo still here", "still here\n")
    repl.type("\x03")
    assert repl.wait() == 0


def test_ctrl_d_leaves(repl: Terminal) -> None:
    repl.type("\x04")
    assert repl.wait() == 0


def test_history_is_kept_and_private(repl: Terminal, private_home: Path) -> None:
    ask(repl, "echo remembered", "remembered\n")
    repl.type("\x04")
    assert repl.wait() == 0
    history = private_home / "history"
    assert "echo remembered" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    with Terminal([*COMMAND, "run", MODEL]) as again:
        again.wait_for(PROMPT)
        again.type("\x1b[A")
        again.wait_for("echo remembered")
        again.type("\r")
        again.wait_for("remembered\n")
        leave(again)


def test_slash_commands(repl: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    ask(repl, "/help", "/save FILE")
    ask(repl, "/set temperature 0.5", "")
    ask(repl, "/system be brief", "")
    ask(repl, "sampling", "temperature=0.5")
    ask(repl, f"/save {file}", "saved to")
    ask(repl, "/clear", "the conversation is empty")
    ask(repl, "messages", "system=be brief | user=messages")
    ask(repl, f"/load {file}", "2 messages loaded")
    ask(repl, "/retry", "temperature=0.5")
    ask(repl, "/stats", "tok/s")
    ask(repl, "/stat", "did you mean /stats")
    repl.type("\x15")
    leave(repl)
    assert json.loads(file.read_text())["system"] == "be brief"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_dumb_terminal_gets_plain_lines(private_home: Path) -> None:
    with Terminal([*COMMAND, "run", MODEL], {"TERM": "dumb"}) as terminal:
        terminal.wait_for(PROMPT)
        ask(terminal, "echo plain", "plain\n")
        start = len(terminal.text)
        terminal.type('"""a\rb"""\r')
        at = terminal.wait_for("you said: a\nb\n", after=start)
        terminal.wait_for(PROMPT, after=at)
        terminal.type("slow\r")
        terminal.wait_for("word2", after=at)
        terminal.interrupt()
        at = terminal.wait_for("(stopped)", after=at)
        terminal.wait_for(PROMPT, after=at)
        assert terminal.interrupt_to_the_end() == 0
    assert "\x1b" not in terminal.raw
    assert not (private_home / "history").exists()


def test_loading_that_fails_ends_before_the_first_prompt() -> None:
    with Terminal([*COMMAND, "run", "unreachable"]) as terminal:
        assert terminal.wait() == 3
    assert "error: no source answered" in terminal.text
    assert ">>>" not in terminal.text
