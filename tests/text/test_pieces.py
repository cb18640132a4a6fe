"""Cutting long text: nothing lost, nothing too long, borders where no token crosses; and what it is for (T23)."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable

import pytest

from localllm.text.pieces import MAX_PIECE_CHARS, MAX_RUN_CHARS, cut
from localllm.text.segments import Segment
from localllm.text.tokens import Encoder
from tests.text.conftest import Loaded

LONG = {
    "one letter": "a" * 300_000,
    "spaces": " " * 300_000,
    "newlines": "\n" * 300_000,
    "digits": "1" * 300_000,
    "marks": "a\u0301" * 100_000,
    "families": "👩‍👩‍👧‍👦" * 20_000,
    "emoji lines": "😀\n" * 100_000,
    "han": "漢" * 100_000,
    "brackets": "<" * 300_000,
    "half tokens": "<|im_" * 60_000,
    "tokens": "<think>" * 20_000,
    "mixed": "ab1 .é" * 50_000,
}


@pytest.mark.parametrize("name", LONG)
def test_pieces_are_bounded_and_make_up_the_text(name: str) -> None:
    pieces = cut(LONG[name])
    assert "".join(pieces) == LONG[name]
    assert max(map(len, pieces)) <= MAX_PIECE_CHARS
    for piece in pieces:
        run = best = 0
        for one, two in itertools.pairwise(piece):
            run = run + 1 if one.isspace() == two.isspace() else 0
            best = max(best, run)
        assert best < MAX_RUN_CHARS


def test_short_text_is_left_alone() -> None:
    for text in ("", "a", "b" * MAX_RUN_CHARS, "word " * 200):
        assert cut(text) == [text]


def test_words_are_not_cut() -> None:
    rng = random.Random(7)
    words = ["".join(rng.choices("abcdefgh", k=rng.randrange(1, 12))) for _ in range(20_000)]
    text = "".join(word + rng.choice([" ", " ", " ", ", ", ".\n", "\n\n", " (", ") "]) for word in words)
    pieces = cut(text)
    assert len(pieces) > 10
    assert all(piece[0] == " " and piece[1].isalnum() for piece in pieces[1:])


@pytest.mark.parametrize("name", ["chatml", "llama3", "mistral", "deepseek"])
def test_long_prose_has_the_ids_it_has_in_one_piece(name: str, load_family: Callable[[str], Loaded]) -> None:
    family, vocab = load_family(name)
    rng = random.Random(11)
    words = ["hello", "user", "the", "thin", "über", "漢字", "42", "(x)", "it's", "a_b", "end.", "\n", "\n\n  -"]
    text = " ".join(rng.choices(words, k=8_000)) + "漢字，かな。" * 2_000
    encoder = Encoder(vocab, family.compile().source)
    assert encoder.encode([Segment(text, False)], add_bos=False) == vocab.tokenize(text)


@pytest.mark.parametrize("name", ["chatml", "llama3", "mistral", "deepseek"])
def test_hostile_text_is_tokenized_in_time(name: str, load_family: Callable[[str], Loaded]) -> None:
    family, vocab = load_family(name)
    encoder = Encoder(vocab, family.compile().source)
    for text in LONG.values():
        started = time.monotonic()
        ids = encoder.encode([Segment(text, False)], add_bos=False)
        assert time.monotonic() - started < 5, text[:5]
        assert len(ids) > 100
