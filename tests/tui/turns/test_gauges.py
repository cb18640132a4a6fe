"""The line of figures: what is said, and what is left out first."""

from __future__ import annotations

from localllm_tui.turns.gauges import Gauges, LiveSpeed, fitting, pieces, seconds

from localllm.api import Progress, Queued

WHOLE = Gauges(
    num_used=1204,
    num_ctx=8192,
    num_cached=812,
    tokens_per_s=42.13,
    first_token_s=0.312,
    device="CPU",
    memory_bytes=180_000_000,
)


def said(gauges: Gauges) -> list[str]:
    return [piece.text for piece in pieces(gauges) if piece.share is None]


def test_all_that_is_measured_is_said() -> None:
    assert said(WHOLE) == ["1,204 / 8,192 tokens", "812 cached", "42.1 tok/s", "first token 0.31 s", "CPU 180 MB"]
    (bar,) = [piece for piece in pieces(WHOLE) if piece.share is not None]
    assert bar.share == 1204 / 8192


def test_what_is_not_known_is_not_said() -> None:
    assert said(Gauges()) == []
    assert said(Gauges(num_used=12)) == ["12 tokens"]
    assert said(Gauges(num_ctx=8192)) == ["8,192 tokens of context"]
    assert said(Gauges(num_cached=0, tokens_per_s=120.4)) == ["120 tok/s"]


def test_near_the_limit_it_warns() -> None:
    tones = {piece.tone for piece in pieces(Gauges(num_used=7500, num_ctx=8192))}
    assert tones == {"warning"}


def test_the_queue_and_a_load_are_said() -> None:
    assert said(Gauges(queued=Queued(2, 14.2)))[0] == "2 ahead, about 14 s"
    assert said(Gauges(queued=Queued(0)))[0] == "next in the queue"
    download = Progress("download", "smollm2:135m\x1b[2J", 45_000_000, 90_000_000)
    assert said(Gauges(progress=download)) == ["downloading", "smollm2:135m\\x1b[2J", "50%", "45.0 MB of 90.0 MB"]
    assert said(Gauges(progress=Progress("load", "", 0.3, 1.0, "fraction"))) == ["loading", "30%"]
    assert said(Gauges(progress=Progress("resolve"))) == ["looking for"]


def test_in_a_narrow_place_the_lowest_ranks_go_first() -> None:
    line = pieces(WHOLE)
    for columns in range(120):
        kept = fitting(line, columns, 3, 16)
        assert kept
        taken = sum(16 if piece.share is not None else len(piece.text) for piece in kept) + 3 * (len(kept) - 1)
        assert taken <= columns or len(kept) == 1
        left_out = [piece for piece in line if piece not in kept]
        assert not left_out or max(piece.rank for piece in left_out) <= min(piece.rank for piece in kept)
    assert [piece.text for piece in fitting(line, 20, 3, 16)] == ["1,204 / 8,192 tokens"]


def test_times_are_said_as_people_say_them() -> None:
    assert [seconds(value) for value in (0.314, 3.14, 31.4, 314.0)] == ["0.31 s", "3.1 s", "31 s", "5 min"]


def test_live_speed_is_that_of_the_last_seconds() -> None:
    speed = LiveSpeed()
    assert speed.tokens_per_s() is None
    for second in range(11):
        speed.count(float(second), second * 10)
    assert speed.tokens_per_s() == 10.0
    for second in range(11, 20):
        speed.count(float(second), 100 + (second - 10) * 50)
    assert speed.tokens_per_s() == 50.0
