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
        ('  "How Whales Sleep."\n', "How Whales Sleep"),
        ('"How Whales Sleep"\n\nMore words', None),
        ("Title: **Whales asleep**", "Whales asleep"),
        ("Title page of a book", "Title page of a book"),
        ("Whales", None),
        ("python", None),
        ("```python", None),
        ("```\nHow whales sleep\n```", None),
        ("Here is a title:", None),
        ("Sure, here is a function that adds one to any number", None),
        ("鲸鱼怎样睡觉", "鲸鱼怎样睡觉"),
        ("Schlafgewohnheiten", None),
        ("Wie Wale schlafen", "Wie Wale schlafen"),
        ("How do whales sleep?", "How do whales sleep?"),
        ("With one half of", None),
        ("with one **half** of the", None),
        ("With one half", "With one half"),
        ("# Whales asleep", "Whales asleep"),
        ("...", None),
        ("", None),
        ("x" * 200, None),
        ("word " + "x" * 200, None),
    ],
)
def test_what_a_model_says_becomes_a_title(said: str, title: str | None) -> None:
    assert clean_title(said, [node.content for node in PATH]) == title


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
