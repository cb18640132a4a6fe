"""TextStream: no half characters, no part of a stop string, linear time."""

from __future__ import annotations

import time

import pytest

from localllm.engine.output import TextStream


def _run(stream: TextStream, data: bytes, size: int) -> list[str]:
    shown = []
    for at in range(0, len(data), size):
        shown.append(stream.feed(data[at : at + size]))
        if stream.stopped is not None:
            return shown
    return [*shown, stream.flush()]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_characters_stay_whole_however_the_bytes_are_cut(size: int) -> None:
    text = "naïve 日本語 👩‍👩‍👧 done"
    parts = _run(TextStream(), text.encode(), size)
    assert "".join(parts) == text
    assert "�" not in "".join(parts)


def test_bytes_that_are_no_character_become_replacement_characters() -> None:
    assert "".join(_run(TextStream(), b"a\xff b\xe6\x97", 1)) == "a� b�"


@pytest.mark.parametrize("stop", ["END", "\n\n", "ababac", "é!"])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_stop_string_ends_the_text_and_is_never_partly_shown(stop: str, size: int) -> None:
    before = "one ab abab \n é E EN "
    parts = _run(stream := TextStream((stop,)), (before + stop + " after").encode(), size)
    assert "".join(parts) == before
    assert stream.stopped == stop
    for i in range(1, len(parts) + 1):
        assert before.startswith("".join(parts[:i]))


def test_the_first_of_several_stop_strings_wins() -> None:
    stream = TextStream(("later", "now"))
    assert "".join(_run(stream, b"say now or later", 3)) == "say "
    assert stream.stopped == "now"


def test_a_beginning_of_a_stop_string_is_shown_when_it_comes_to_nothing() -> None:
    stream = TextStream(("STOP",))
    assert stream.feed(b"go ST") == "go "
    assert stream.feed(b"ART") == "START"
    assert stream.feed(b" ST") == " "
    assert stream.flush() == "ST"


def test_time_is_linear_in_the_text() -> None:
    def cost(num: int) -> float:
        stream = TextStream(("x" * 200 + "y",))
        begun = time.perf_counter()
        for _ in range(num):
            stream.feed(b"x")
        return time.perf_counter() - begun

    small = min(cost(1000) for _ in range(3))
    assert min(cost(8000) for _ in range(3)) < 8 * 4 * small
