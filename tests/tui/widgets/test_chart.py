from __future__ import annotations

from localllm_tui.widgets.chart import draw, sentence


def test_the_largest_fills_its_column_and_what_is_not_nothing_is_seen() -> None:
    assert draw([0, 0.1, 50, 100], 4, 2) == ["   █", " ▁██"]


def test_the_newest_are_shown_at_the_right() -> None:
    assert draw([1, 2, 3, 4], 2, 1) == ["▆█"]
    assert draw([4], 3, 1) == ["  █"]


def test_nothing_measured_and_no_room_are_no_trouble() -> None:
    assert draw([], 3, 1) == ["   "]
    assert draw([0, 0], 2, 1) == ["  "]
    assert draw([1], 0, 3) == []


def test_in_words() -> None:
    assert sentence([], "tokens a second") == "no tokens a second measured yet"
    assert sentence([3, 80, 41.6], "tokens a second") == "42 tokens a second now, 80 at most in the last 3 seconds"
