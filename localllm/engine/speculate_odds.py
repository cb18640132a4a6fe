"""Odds and Purse: how often drafts are right, and what a request may lose by trying. Integers only; no clock.

The odds say whether a draft is likely to pay. The purse bounds what it costs where they are wrong: a request may spend
what drafts have won before and a hundredth part of its time besides, never more.
"""

from __future__ import annotations

# Kinds of drafts: how many tokens agree before the place they are copied from; last, those of a draft model.
_LENGTHS = (0, 2, 4, 8, 16)
MODEL = len(_LENGTHS) + 1
NUM_KINDS = MODEL + 1

ONE = 1024
"""Certainty."""

# What is thought of each kind before any was tried.
_FIRST = (400, 500, 640, 740, 850, 930, 800)

_WINDOW = 48  # tokens after which a request's older ones count half
_WINDOW_ALL = 480
_PRIOR = 6  # tokens that all requests' odds weigh in those of one
_PRIOR_ALL = 24

_INCOME = 128  # one part of so many of its time a request may lose
_START_TENTHS = 15  # steps in a new purse, in tenths
_CAP = 16  # steps that a purse holds at most
_FUND_CAP = 64
_FUND_START = 8


def kind_of(length: int) -> int:
    """The kind of a draft whose context agreed over `length` tokens."""
    return sum(length > bound for bound in _LENGTHS)


class Odds:
    """How often a draft was right where all before it were, by kind. `shared` tells of other requests."""

    def __init__(self, shared: Odds | None = None) -> None:
        self._shared = shared
        self._window = _WINDOW_ALL if shared is None else _WINDOW
        self._right = [0] * NUM_KINDS
        self._tried = [0] * NUM_KINDS

    def observe(self, kind: int, num_drafts: int, num_accepted: int) -> None:
        """Book a draft. Beyond the first wrong token nothing was learned."""
        tried = min(num_drafts, num_accepted + 1)
        if self._tried[kind] + tried > self._window:
            self._tried[kind] //= 2
            self._right[kind] //= 2
        self._tried[kind] += tried
        self._right[kind] += num_accepted
        if self._shared is not None:
            self._shared.observe(kind, num_drafts, num_accepted)

    def of(self, kind: int) -> int:
        """The chance that the next token is right, of ONE."""
        first, weight = (_FIRST[kind], _PRIOR_ALL) if self._shared is None else (self._shared.of(kind), _PRIOR)
        return (ONE * self._right[kind] + first * weight) // (self._tried[kind] + weight)


def expected(chance: int, num_drafts: int) -> int:
    """How many of `num_drafts` will be right, of ONE each."""
    total, all_right = 0, ONE
    for _ in range(num_drafts):
        all_right = all_right * chance // ONE
        total += all_right
    return total


class Fund:
    """What all requests together may lose; short ones start from it."""

    def __init__(self) -> None:
        self._us: int | None = None

    def draw(self, unit_us: int) -> int:
        """A new request's share. `unit_us`: what a token takes without drafts."""
        has_us = _FUND_START * unit_us if self._us is None else min(self._us, _FUND_CAP * unit_us)
        share = max(0, min(has_us, _START_TENTHS * unit_us // 10))
        self._us = has_us - share
        return share

    def give_back(self, left_us: int) -> None:
        """Take in what a request leaves, or what it owes."""
        self._us = (self._us or 0) + left_us


class Purse:
    """What a request may still lose, in microseconds of the machine. `num_idle`: steps since its last drafts."""

    def __init__(self, start_us: int) -> None:
        self.us = start_us
        self.num_idle = 0

    def earn(self, unit_us: int) -> None:
        """A token came without drafts and took `unit_us`."""
        self.num_idle += 1
        self.us = min(self.us + max(1, unit_us // _INCOME), _CAP * unit_us)

    def settle(self, won_us: int, unit_us: int) -> None:
        """Book what a draft won, or lost where that is below 0."""
        self.num_idle = 0
        self.us = min(self.us + won_us, _CAP * unit_us)
