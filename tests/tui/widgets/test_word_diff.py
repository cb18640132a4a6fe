"""What differs between two texts: nothing is lost, and it takes bounded time."""

from __future__ import annotations

import random
import time

import pytest
from localllm_tui.widgets.word_diff import MAX_LINES, MAX_WORDS, Piece, text_diff


def joined(pieces: tuple[Piece, ...]) -> str:
    """The text again."""
    return "".join(text for text, _ in pieces)


def marked(pieces: tuple[Piece, ...]) -> list[str]:
    """What differs."""
    return [text for text, differs in pieces if differs]


def test_words_that_differ() -> None:
    diff = text_diff("A tree holds many keys, in order.", "A tree holds few keys in good order.")
    assert diff.by == "words"
    assert marked(diff.left) == ["many", ","]
    assert marked(diff.right) == ["few", "good"]


@pytest.mark.parametrize(
    ("left", "right", "by"),
    [
        ("", "", "words"),
        ("same", "same", "words"),
        ("", "something", "other"),
        ("a b c d e f g h", "z y x w v u t s", "other"),
        ("x " * MAX_WORDS + "end", "y " * (MAX_WORDS + 5), "other"),
        ("same\n" * MAX_WORDS + "a b\n" * 3000, "same\n" * MAX_WORDS + "c d\n" * 100, "nothing"),
        ("\n".join(f"line {at}" for at in range(MAX_LINES)), "\n".join(f"line {at * 2}" for at in range(900)), "lines"),
        ("  lead\n\ttab\r\nend ", "lead tab  end", "words"),
    ],
    ids=["empty", "same", "one", "other", "long", "very-long", "lines", "spaces"],
)
def test_pieces_joined_are_the_texts(left: str, right: str, by: str) -> None:
    diff = text_diff(left, right)
    assert (joined(diff.left), joined(diff.right)) == (left, right)
    assert diff.by == by
    if by == "nothing":
        assert not marked(diff.left) + marked(diff.right)


def test_time_is_bounded() -> None:
    source = random.Random(3)
    for num_words in (2, 40, 10_000):
        left, right = (" ".join(str(source.randrange(num_words)) for _ in range(MAX_WORDS // 2)) for _ in range(2))
        started = time.process_time()
        diff = text_diff(left, right)
        assert time.process_time() - started < 2
        assert (joined(diff.left), joined(diff.right)) == (left, right)
