"""Titles: the words a model says, made into one, or into none."""

from __future__ import annotations

import pytest
from localllm_tui.history.values import Node
from localllm_tui.turns.title import MAX_CHARS, ask_title, clean_title, first_words

from tests.tui.host import MODEL, ScriptedBackend, run

PATH = (Node(1, 1, None, "user", "how do whales sleep?"), Node(2, 1, 1, "assistant", "With one half of the brain."))


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ("How whales sleep", "How whales sleep"),
        ('  "How Whales Sleep."\n\nMore words', "How Whales Sleep"),
        ("Title: **Whales**", "Whales"),
        ("# Whales asleep", "Whales asleep"),
        ("...", None),
        ("", None),
        ("x" * 200, "x" * (MAX_CHARS - 1) + "…"),
    ],
)
def test_what_a_model_says_becomes_a_title(said: str, title: str | None) -> None:
    assert clean_title(said) == title


def test_first_words_are_cut_between_words() -> None:
    assert first_words("short\n  text ") == "short text"
    cut = first_words("word " * 40)
    assert len(cut) <= MAX_CHARS
    assert cut.endswith("word…")


def test_it_is_asked_for_behind_everybody_and_its_errors_are_no_news() -> None:
    async def story() -> None:
        backend = ScriptedBackend()
        backend.title = "Sleeping whales"
        assert await ask_title(backend, MODEL, PATH) == "Sleeping whales"
        (asked,) = backend.asides
        assert asked.priority < 0
        assert asked.sampling.max_tokens is not None
        assert "how do whales sleep?" in asked.messages[0].content
        backend.title = None
        assert await ask_title(backend, MODEL, PATH) is None

    run(story())
