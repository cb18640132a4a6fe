"""Control characters, sizes, ages and widths."""

from __future__ import annotations

import datetime

import pytest

from localllm import terminal_text as text


def test_no_control_character_reaches_a_terminal() -> None:
    every = "".join(map(chr, range(0x250)))
    shown = text.safe_stream(every)
    assert {char for char in shown if ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0} == {"\n", "\t"}
    line = text.safe_line(every + "\u202e\u2066")
    assert not {char for char in line if ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or ord(char) > 0x2000}


def test_control_characters_are_shown_not_dropped() -> None:
    assert text.safe_stream("a\x1b[2Jb\r\n") == "a\\x1b[2Jb\n"
    assert text.safe_line("a\nb") == "a\\x0ab"
    assert text.safe_line("\u202egpj.exe") == "\\u202egpj.exe"


def test_text_of_every_language_stays() -> None:
    words = "naïve 你好 שלום 🙂 plain"
    assert text.safe_stream(words) == words == text.safe_line(words)


@pytest.mark.parametrize(
    ("num", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (98_362_432, "98.4 MB"), (999_960_000, "1.0 GB"), (4e13, "40.0 TB")],
)
def test_sizes(num: float, words: str) -> None:
    assert text.size(num) == words


@pytest.mark.parametrize(
    ("num", "words"), [(None, ""), (500, "500"), (134_515_008, "135M"), (8_030_000_000, "8.0B"), (10**12, "1.0T")]
)
def test_counts(num: int | None, words: str) -> None:
    assert text.count(num) == words


@pytest.mark.parametrize(
    ("iso", "words"),
    [
        ("2026-01-10T00:00:00+00:00", "just now"),
        ("2026-01-09T23:00:00+00:00", "1 hour ago"),
        ("2026-01-07T00:00:00+00:00", "3 days ago"),
        ("2026-01-09", "1 day ago"),
        ("2027-01-01T00:00:00+00:00", "just now"),
        ("whenever", "whenever"),
    ],
)
def test_ages(iso: str, words: str) -> None:
    assert text.age(iso, datetime.datetime(2026, 1, 10, tzinfo=datetime.UTC)) == words


def test_widths_and_cuts() -> None:
    assert text.width("abc") == 3
    assert text.width("你好") == 4
    assert text.width("e\u0301") == 1
    assert text.cut("abcdef", 4) == "abc…"
    assert text.cut("你好你好", 4) == "你…"
    assert text.width(text.cut("你好你好", 5)) <= 5
    assert text.cut("abc", 3) == "abc"
