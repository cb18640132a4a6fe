"""WordPiece against what Hugging Face's tokenizers give for BERT's vocabulary rules, case by case."""

from __future__ import annotations

import pytest

from localllm.text.wordpiece import MAX_CACHED_WORDS, MAX_WORD_CHARS, WordPiece

UNKNOWN = 0
WORDS = ("the", "cat", "sat", "un", "cafe", "i", "ii", "σ", "λογοσ", "\u1109\u1165", "ब", "a", "猫", ",", ".", "$", "½")
ENDS = ("##s", "##affable", "##ि", "##ल", "##z", "##\u110b", "##\u116e")


def spelled(word: str) -> str:
    return word[2:] if word.startswith("##") else "\u2581" + word


PIECES = [(spelled(word), number) for number, word in enumerate((*WORDS, *ENDS), start=1)]
IDS = {word: number for number, word in enumerate((*WORDS, *ENDS), start=1)}


def ids(*words: str) -> list[int]:
    return [IDS[word] for word in words]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  \t\n", []),
        ("the cat sat.", ids("the", "cat", "sat", ".")),
        ("The CATS", ids("the", "cat", "##s")),
        ("unaffable", ids("un", "##affable")),
        ("a,cat$", ids("a", ",", "cat", "$")),
        ("café cafe\u0301 CAFÉ", ids("cafe", "cafe", "cafe")),
        ("İ", ids("i")),
        ("ΛΟΓΟΣ", ids("λογοσ")),  # no final sigma: letters are lowered one by one
        ("\uc11c", ids("\u1109\u1165")),  # Hangul comes apart
        ("\uc11c\uc6b0", ids("\u1109\u1165", "##\u110b", "##\u116e")),
        ("बिल", ids("ब", "##ि", "##ल")),  # vowel signs stay
        ("cat猫cat", ids("cat", "猫", "cat")),
        ("½", ids("½")),
        ("ca\u200bt c\u00ada\u0007t", ids("cat", "cat")),
        ("cat\u3000cat\u00a0cat", ids("cat", "cat", "cat")),
        ("\ufffdcat", ids("cat")),
        ("cat\ud800", ids("cat")),
    ],
)
def test_words_become_their_longest_pieces(text: str, expected: list[int]) -> None:
    assert WordPiece(PIECES, UNKNOWN).tokenize(text) == expected


def test_a_word_with_a_gap_is_unknown_as_a_whole() -> None:
    pieces = WordPiece(PIECES, UNKNOWN)
    assert pieces.tokenize("catq cat qcat") == [UNKNOWN, IDS["cat"], UNKNOWN]


def test_a_word_that_is_too_long_is_unknown() -> None:
    pieces = WordPiece(PIECES, UNKNOWN)
    most = "a" + "z" * (MAX_WORD_CHARS - 1)
    assert pieces.tokenize(most) == ids("a") + [IDS["##z"]] * (MAX_WORD_CHARS - 1)
    assert pieces.tokenize(most + "z") == [UNKNOWN]


def test_a_vocabulary_with_case_and_accents_keeps_them() -> None:
    pieces = WordPiece([("\u2581Café", 5), ("\u2581café", 6)], UNKNOWN, lowercase=False, strip_accents=False)
    assert pieces.tokenize("Café café cafe") == [5, 6, UNKNOWN]


def test_the_mark_of_a_beginning_is_no_piece() -> None:
    pieces = WordPiece([*PIECES, ("\u2581", 99)], UNKNOWN)
    assert pieces.tokenize("s") == [UNKNOWN]


def test_what_is_remembered_is_bounded() -> None:
    pieces = WordPiece(PIECES, UNKNOWN)
    for number in range(MAX_CACHED_WORDS + 10):
        pieces.tokenize(f"{number:x}")
    assert len(pieces._words) <= MAX_CACHED_WORDS
    assert pieces.tokenize("the cat") == ids("the", "cat")
