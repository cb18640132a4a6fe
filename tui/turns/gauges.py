"""Gauges: the figures of a conversation, and how they are written. Pure; what is not known is None, and not shown."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import msgspec

from localllm.api import Progress, Queued
from localllm.terminal_text import safe_line, size

# Live speed is that of the last seconds.
_WINDOW_S = 4.0
# What waits longer than the rest when the line gets narrow has the higher rank.
_RANK_QUEUE, _RANK_CONTEXT, _RANK_SPEED, _RANK_BAR, _RANK_FIRST, _RANK_CACHED, _RANK_DEVICE = 9, 8, 7, 6, 5, 4, 3

_STAGES = {"resolve": "looking for", "download": "downloading", "verify": "checking", "load": "loading"}


class Gauges(msgspec.Struct, frozen=True):
    """Tokens of context used and available, of the last prompt those from the cache; tokens a second; seconds.

    `is_live`: the speed is that of this moment. `memory_bytes` is what the model takes on `device`.
    """

    num_used: int | None = None
    num_ctx: int | None = None
    num_cached: int | None = None
    tokens_per_s: float | None = None
    is_live: bool = False
    first_token_s: float | None = None
    queued: Queued | None = None
    progress: Progress | None = None
    device: str | None = None
    memory_bytes: int | None = None
    doing: str = ""


class Piece(NamedTuple):
    """A part of the line. `tone`: "", "accent" or "warning"; `share` draws a bar of so many of 1.0 instead of text."""

    text: str
    rank: int
    tone: str = ""
    share: float | None = None


def pieces(gauges: Gauges) -> list[Piece]:
    """The line, from left to right."""
    if gauges.progress is not None:
        return _progress_pieces(gauges.progress)
    line: list[Piece] = []
    if gauges.queued is not None:
        line.append(Piece(_queue_words(gauges.queued), _RANK_QUEUE, "accent"))
    elif gauges.doing:
        line.append(Piece(gauges.doing, _RANK_QUEUE, "accent"))
    line += _context_pieces(gauges)
    if gauges.num_cached:
        line.append(Piece(f"{gauges.num_cached:,} cached", _RANK_CACHED))
    if gauges.tokens_per_s is not None:
        line.append(Piece(f"{_figure(gauges.tokens_per_s)} tok/s", _RANK_SPEED, "accent" if gauges.is_live else ""))
    if gauges.first_token_s is not None:
        line.append(Piece(f"first token {seconds(gauges.first_token_s)}", _RANK_FIRST))
    if gauges.device is not None:
        memory = f" {size(gauges.memory_bytes)}" if gauges.memory_bytes else ""
        line.append(Piece(f"{safe_line(gauges.device)}{memory}", _RANK_DEVICE))
    return line


def fitting(line: list[Piece], columns: int, gap: int, bar_columns: int) -> list[Piece]:
    """What of the line fits into `columns`, the lowest ranks left out first."""
    kept = list(line)

    def taken() -> int:
        return sum(bar_columns if piece.share is not None else len(piece.text) for piece in kept) + gap * (
            len(kept) - 1
        )

    while len(kept) > 1 and taken() > columns:
        kept.remove(min(reversed(kept), key=lambda piece: piece.rank))
    return kept


def seconds(value: float) -> str:
    """A time as people say it: `0.31 s`, `12 s`, `3 min`."""
    if value < 1:
        return f"{value:.2f} s"
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}"


def _queue_words(queued: Queued) -> str:
    ahead = f"{queued.num_ahead} ahead" if queued.num_ahead else "next in the queue"
    return ahead if queued.eta_s is None else f"{ahead}, about {seconds(queued.eta_s)}"


def _context_pieces(gauges: Gauges) -> list[Piece]:
    used, ctx = gauges.num_used, gauges.num_ctx
    if used is None:
        return [] if ctx is None else [Piece(f"{ctx:,} tokens of context", _RANK_CONTEXT)]
    if not ctx:
        return [Piece(f"{used:,} tokens", _RANK_CONTEXT)]
    share = used / ctx
    tone = "warning" if share > NEAR else ""
    return [
        Piece(f"{used:,} / {ctx:,} tokens", _RANK_CONTEXT, tone),
        Piece("", _RANK_BAR, tone, min(1.0, share)),
    ]


def _progress_pieces(progress: Progress) -> list[Piece]:
    stage = _STAGES[progress.stage]
    line = [Piece(stage, _RANK_QUEUE, "accent")]
    if progress.detail:
        line.append(Piece(safe_line(progress.detail), _RANK_DEVICE))
    if progress.total:
        share = min(1.0, max(0.0, progress.done / progress.total))
        line.append(Piece("", _RANK_BAR, "", share))
        line.append(Piece(f"{share:.0%}", _RANK_CONTEXT))
        if progress.unit == "bytes":
            line.append(Piece(f"{size(progress.done)} of {size(progress.total)}", _RANK_SPEED))
    elif progress.done and progress.unit == "bytes":
        line.append(Piece(size(progress.done), _RANK_SPEED))
    return line


# From this share of the context on, a person is asked before more is sent.
NEAR = 0.9


class LiveSpeed:
    """Tokens a second over the last seconds, from counts as they come."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, int]] = deque()

    def count(self, now: float, num_tokens: int) -> None:
        """So many tokens in all at `now`."""
        self._counts.append((now, num_tokens))
        while len(self._counts) > 2 and now - self._counts[1][0] >= _WINDOW_S:
            self._counts.popleft()

    def tokens_per_s(self) -> float | None:
        """The speed; None before there is a stretch of time to speak of."""
        if len(self._counts) < 2:
            return None
        (first, before), (last, after) = self._counts[0], self._counts[-1]
        return (after - before) / (last - first) if last - first >= 0.5 and after > before else None
