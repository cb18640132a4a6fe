"""Parts of JSON, counted without decoding it."""

from __future__ import annotations

import json
import time
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from localllm.daemon import body_parts
from localllm.daemon.body_parts import MAX_CONTAINERS, MAX_STRINGS, MAX_VALUES, check_parts
from localllm.errors import InvalidRequestError

TEXTS = strategies.text('ab"\\[{,:}] \n\N{SNOWMAN}', max_size=12)
VALUES = strategies.recursive(
    strategies.integers(-9, 99) | strategies.booleans() | TEXTS,
    lambda inner: strategies.lists(inner, max_size=4) | strategies.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def parts_of(value: Any) -> tuple[int, int, int]:
    """Objects and lists, strings, commas."""
    if isinstance(value, str):
        return 0, 1, 0
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    if inner is None:
        return 0, 0, 0
    found = [parts_of(part) for part in inner]
    return (
        1 + sum(part[0] for part in found),
        len(value) * isinstance(value, dict) + sum(part[1] for part in found),
        max(0, len(inner) - 1) + sum(part[2] for part in found),
    )


@hypothesis.given(value=VALUES, piece_bytes=strategies.integers(1, 40))
@hypothesis.settings(max_examples=300, deadline=None, database=None)
def test_parts_are_counted_whatever_stands_in_strings_and_wherever_it_is_cut(value: Any, piece_bytes: int) -> None:
    data = json.dumps(value, ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(body_parts, "_PIECE_BYTES", piece_bytes)
        exact = [sum(column) for column in zip(*body_parts._exactly(data), strict=True)]
        bound = [sum(column) for column in zip(*body_parts._at_most(data), strict=True)]
    assert tuple(exact) == parts_of(value)
    if len(data) <= piece_bytes:
        assert all(most >= num for most, num in zip(bound, exact, strict=True))


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b'{"x":[' + b"[]," * MAX_CONTAINERS + b"[]]}", "objects and lists"),
        (b'{"x":[' + b'"",' * MAX_STRINGS + b'""]}', "strings"),
        (b'{"x":[' + b'"\\\\",' * MAX_STRINGS + b'""]}', "strings"),
        (b'{"x":[' + b"0," * (MAX_VALUES + 1) + b"0]}", "values"),
        (b'{"x":"' + b"a, b [c] {d} " * 99_000 + b'","y":[' + b"[]," * MAX_CONTAINERS + b"[]]}", "objects and lists"),
    ],
    ids=["lists", "strings", "backslashes", "numbers", "behind a text"],
)
def test_too_many_parts_are_refused(body: bytes, what: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidRequestError, match=what):
        check_parts(body)
    assert time.monotonic() - began < 1.0


def test_long_texts_have_no_parts() -> None:
    text = 'A list, [of] {these}, "quoted" and \\ more. ' * 200_000
    check_parts(json.dumps({"messages": [{"role": "user", "content": text}]}).encode())
    check_parts(json.dumps({"prompt": list(range(400_000))}).encode())
