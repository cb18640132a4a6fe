"""The prompt in a real terminal: its keys; an editor gets the terminal, the chat goes on, and the text comes back."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("pty", reason="pseudo-terminals are POSIX")

from tests.cli.terminal import Terminal

# An app that says on the screen what the composer holds, and how often its event loop came round while it was away.
PROGRAM = """
import asyncio, sys
from pathlib import Path
from localllm_tui.widgets.composer import Composer
from textual.app import App

class Sheet(App):
    beats = 0
    def compose(self):
        yield Composer()
    def on_mount(self):
        self.query_one(Composer).focus()
        self.set_interval(0.05, self.beat)
    def beat(self):
        self.beats += 1
        Path(sys.argv[1], "beats").write_text(str(self.beats))
        self.query_one(Composer).refresh()
    def on_composer_submitted(self, event):
        self.exit(event.text)

print("SENT:", Sheet().run().replace("\\n", "|"))
"""
# An editor that asks for a line on the terminal, and waits for the app's loop to have gone on meanwhile.
EDITOR = """
import pathlib, sys, time
beats = pathlib.Path({folder!r}, "beats")
first = int(beats.read_text() or 0)
words = input("EDITOR-HERE> ")
deadline = time.monotonic() + 10
while int(beats.read_text() or 0) < first + 5 and time.monotonic() < deadline:
    time.sleep(0.01)
assert int(beats.read_text() or 0) >= first + 5, "the chat stood still"
if words == "fail":
    sys.exit(3)
file = pathlib.Path(sys.argv[-1])
file.write_text(file.read_text() + "\\n" + words + "\\n")
"""


def interrupt_editor(terminal: Terminal, at: int) -> int:
    """Press Ctrl-C until the chat is back: one just before a blocking read begins is noticed only after it."""
    for _ in range(20):
        terminal.interrupt()
        with contextlib.suppress(AssertionError):
            return terminal.wait_for("with signal 2", after=at, timeout_s=4.0)
    raise AssertionError("Ctrl-C does not end the editor, or ends the chat")


def test_the_terminal_is_given_away_and_taken_back(tmp_path: Path) -> None:
    (tmp_path / "editor.py").write_text(EDITOR.format(folder=str(tmp_path)))
    (tmp_path / "program.py").write_text(PROGRAM)
    env = {"VISUAL": f"'{sys.executable}' '{tmp_path / 'editor.py'}'"}
    with Terminal([sys.executable, str(tmp_path / "program.py"), str(tmp_path)], env, columns=80) as terminal:
        terminal.wait_for("Ctrl+J new line")
        terminal.type("typed")
        terminal.wait_for("typed")
        terminal.type("\x07")
        at = terminal.wait_for("EDITOR-HERE>")
        at = interrupt_editor(terminal, at)
        terminal.type("\x07")
        at = terminal.wait_for("EDITOR-HERE>", after=at)
        terminal.type("fail\r")
        at = terminal.wait_for("with status 3", after=(typed := at))
        assert terminal.text[typed:].startswith(" fail")  # nothing was drawn over the editor
        terminal.type("\x07")
        at = terminal.wait_for("EDITOR-HERE>", after=at)
        terminal.type("more words\r")
        at = terminal.wait_for("│ more words", after=at)
        terminal.type("\x1b\r")  # Alt+Enter, as most terminals send it
        terminal.type("end")
        terminal.wait_for("│ end", after=at)
        terminal.type("\r")
        terminal.wait_for("SENT: typed|more words|end")
        assert terminal.wait() == 0
