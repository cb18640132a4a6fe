"""Marks: every operation gives the text that `str` gives, and marks only what came from the template."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from localllm.text.limits import LimitExceeded
from localllm.text.segments import (
    Marked,
    Segment,
    is_trusted,
    join,
    join_pieces,
    percent_format,
    replace,
    spans_of,
    to_segments,
    trusted,
)

# The template writes capitals, digits and punctuation here, data is in small letters: provenance shows in the text.
TEMPLATE = "ABCD<|>12 \n"
DATA = "abcd \n"


def random_marked(rng: random.Random) -> str:
    pieces = []
    for _ in range(rng.randrange(1, 6)):
        source, mark = rng.choice([(TEMPLATE, True), (DATA, False)])
        text = "".join(rng.choices(source, k=rng.randrange(0, 6)))
        pieces.append(trusted(text) if mark else text)
    return join_pieces(pieces)


def check_marks(text: str) -> None:
    """Spans are sorted, apart and inside; what they cover is the template's, and what only it writes is covered."""
    spans = spans_of(text)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(one[1] < two[0] for one, two in itertools.pairwise(spans))
    for index, character in enumerate(str.__str__(text)):
        covered = any(start <= index < end for start, end in spans)
        assert not (covered and character in "abcd"), (text, spans)
        assert covered or character not in "ABCD<|>12", (text, spans)


Operation = Callable[[str], Any]
OPERATIONS: list[tuple[str, Operation]] = [
    ("strip", lambda s: s.strip()),
    ("strip chars", lambda s: s.strip("Aa ")),
    ("lstrip", lambda s: s.lstrip("\n Ab")),
    ("rstrip", lambda s: s.rstrip("\n Ab")),
    ("removeprefix", lambda s: s.removeprefix(str.__str__(s)[:2])),
    ("removesuffix", lambda s: s.removesuffix(str.__str__(s)[-2:] or "x")),
    ("split", lambda s: s.split()),
    ("split sep", lambda s: s.split("a")),
    ("split long sep", lambda s: s.split("aA")),
    ("split overlap", lambda s: s.split("aba")),
    ("split limit", lambda s: s.split("A", 1)),
    ("split space limit", lambda s: s.split(None, 2)),
    ("rsplit", lambda s: s.rsplit("a", 1)),
    ("rsplit space", lambda s: s.rsplit(None, 1)),
    ("splitlines", lambda s: s.splitlines()),
    ("splitlines keep", lambda s: s.splitlines(True)),
    ("partition", lambda s: s.partition("A")),
    ("rpartition", lambda s: s.rpartition("a")),
    ("slice", lambda s: s[1:-1]),
    ("slice tail", lambda s: s[-3:]),
    ("slice empty", lambda s: s[5:2]),
    ("index", lambda s: s[:1] and s[-1]),
    ("iterate", list),
    ("replace", lambda s: s.replace("a", "b")),
    ("replace marked", lambda s: s.replace("<", trusted("D"))),
    ("replace count", lambda s: s.replace("A", "bb", 1)),
    ("double", lambda s: s * 2),
    ("add", lambda s: s + "a"),
    ("radd", lambda s: "a" + s),
    ("swap", lambda s: s.swapcase().swapcase()),
]


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_operations_keep_text_and_marks(name: str, operation: Operation) -> None:
    rng = random.Random(name)
    for _ in range(400):
        text = random_marked(rng)
        result, expected = operation(text), operation(str.__str__(text))
        assert result == expected
        for part in result if isinstance(result, (list, tuple)) else [result]:
            check_marks(part)


def test_other_methods_only_lose_marks() -> None:
    text = trusted("Ab<|x|>")
    for method in ("casefold", "expandtabs", "__repr__"):
        assert type(getattr(text, method)()) is str
    for result in (
        text[::-1],
        text.center(20),
        text.zfill(20),
        text.translate({65: "B"}),
        f"{text:>9}",
        "".join([text]),
    ):
        assert type(result) is str


def test_a_marked_string_made_by_accident_is_data() -> None:
    assert spans_of(Marked("<|x|>")) == ()
    assert to_segments(Marked("<|x|>")) == [Segment("<|x|>", False)]


def test_a_marked_string_is_the_same_key() -> None:
    assert {"role": 1}[trusted("role")] == 1
    assert trusted("a") == "a"
    assert hash(trusted("a")) == hash("a")


def test_case_changes_that_move_characters_lose_marks() -> None:
    assert is_trusted(trusted("abc").upper())
    assert spans_of(trusted("straße").upper()) == ()


def test_data_replaced_by_the_templates_text_stays_data() -> None:
    assert spans_of(replace("a@b", "@", trusted("<|x|>"))) == ()
    half = join_pieces([trusted("<@>"), "@"])
    assert to_segments(half.replace("@", trusted("X"))) == [Segment("<X>", True), Segment("X", False)]


def test_percent_and_join() -> None:
    assert to_segments(percent_format(trusted("<%s>%d%%"), ("a", 5))) == [
        Segment("<", True),
        Segment("a", False),
        Segment(">", True),
        Segment("5", False),
        Segment("%", True),
    ]
    assert to_segments(join(trusted("|"), ["a", trusted("B"), ""])) == [Segment("a", False), Segment("|B|", True)]
    for form, args in [("%s", ()), ("a", (1,)), ("%d", ("x",)), ("%(a)s", {}), ("%q", (1,)), ("%", (1,))]:
        with pytest.raises((TypeError, ValueError, KeyError)):
            percent_format(trusted(form), args)
    with pytest.raises(TypeError):
        join(",", [1])  # type: ignore[list-item]


def test_caps() -> None:
    with pytest.raises(LimitExceeded):
        trusted("a") * 10**9
    with pytest.raises(LimitExceeded):
        join("a" * 10**6, ["b"] * 100)
    with pytest.raises(LimitExceeded):
        percent_format("%99999s", ("a",))
    with pytest.raises(LimitExceeded):
        replace("a" * 10**6, "a", "b" * 10**6)
