"""The chat in a real terminal with real weights, from the first key to the resumed conversation."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tui.tmux import Tmux, skip_without_tmux

pytestmark = [
    pytest.mark.weights,
    pytest.mark.skipif(os.name != "posix", reason="tmux is for POSIX systems"),
]
OPTIONS = ("--local", "--temperature", "0", "--max-tokens", "24")


@pytest.fixture
def chat(smollm2_path: Path) -> list[str]:
    return [sys.executable, "-P", "-m", "localllm", "chat", str(smollm2_path), "--continue", *OPTIONS]


@pytest.fixture
def tmux() -> Iterator[Tmux]:
    skip_without_tmux()
    with Tmux() as tmux:
        yield tmux


def ask(tmux: Tmux, text: str, *marks: str) -> str:
    """Send a message; the screen, once its answer is whole and the marks are there."""
    tmux.type(text)
    tmux.until(text)
    tmux.keys("Enter")
    wanted = (text, "tok/s  ·", *marks)
    return tmux.until(lambda screen: all(words in talk(screen) for words in wanted), 60)


def choose_question(tmux: Tmux) -> None:
    """From the prompt to the turn above the last answer."""
    tmux.keys("C-Up")
    tmux.until(lambda screen: "▌" in talk(screen))
    tmux.keys("Up")
    tmux.until(lambda screen: "▌ You" in talk(screen))


def test_a_conversation_from_start_to_resume(tmux: Tmux, chat: list[str]) -> None:
    tmux.run(chat)
    tmux.until("Ask anything")
    ask(tmux, "Name a colour.")

    # Edit the turn that was sent: another branch, whose sibling is a key away.
    choose_question(tmux)
    tmux.keys("e")
    tmux.until("another version")
    tmux.keys("C-u")
    tmux.until("Ask anything")
    screen = ask(tmux, "Name an animal.", "2/2")
    assert "colour" not in talk(screen)
    choose_question(tmux)
    tmux.keys("Left")
    tmux.until(lambda screen: "1/2" in screen and "Name a colour." in talk(screen))

    # A branch as a conversation of its own, and a search that finds both.
    tmux.keys("b")
    tmux.until(lambda screen: "1/2" not in talk(screen) and "Name a colour." in talk(screen))
    tmux.keys("C-f")
    tmux.until("Search titles")
    tmux.type("animal")
    tmux.until(lambda screen: "Name an animal" in screen.replace("**", ""))
    tmux.keys("Enter")
    tmux.until(lambda screen: "Name an animal." in talk(screen) and "2/2" in screen)

    # Leave with something written, and come back to it.
    tmux.until(lambda screen: "▌" in talk(screen))
    tmux.keys("Escape")
    tmux.until(lambda screen: "▌" not in talk(screen))
    tmux.type("And a third")
    tmux.until("And a third")
    tmux.keys("C-q")
    assert tmux.ended() == 0
    assert "Traceback" not in tmux.screen()
    tmux.run(chat)
    tmux.until(lambda screen: "Name an animal." in talk(screen) and "And a third" in screen)
    tmux.keys("C-q")
    assert tmux.ended() == 0


def test_a_kill_while_an_answer_comes_loses_nothing(tmux: Tmux, chat: list[str]) -> None:
    tmux.run([*chat, "--max-tokens", "2000", "--ignore-eos"])
    tmux.until("Ask anything")
    tmux.type("Tell me everything about the sea.")
    tmux.until("about the sea.")
    tmux.keys("Enter")
    tmux.until(lambda screen: num_words(screen) > 40, 60)
    tmux.type("a draft that is not sent")
    tmux.until("a draft that is not sent")
    # What was seen is kept within a second; some lines later that has passed.
    seen = num_words(tmux.screen())
    tmux.until(lambda screen: num_words(screen) > seen + 80, 60)
    os.kill(tmux.pid(), signal.SIGKILL)
    tmux.run(chat)
    screen = tmux.until(lambda screen: "a draft that is not sent" in screen and "Stopped here" in screen)
    assert num_words(screen) > 40
    tmux.keys("C-q")
    assert tmux.ended() == 0


def num_words(screen: str) -> int:
    """How many words of the conversation are seen."""
    return len(talk(screen).split())


def talk(screen: str) -> str:
    """The conversation's part of a screen: without the list at the left, the title and the prompt."""
    lines = [re.split(r"│", line, maxsplit=1)[-1] for line in screen.splitlines()[1:-4]]
    return "\n".join(lines)
