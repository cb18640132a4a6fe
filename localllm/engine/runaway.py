"""Notices an answer that repeats itself for ever. Pure: token ids in, a yes or no out."""

from __future__ import annotations

# A repetition counts when the same passage of up to so many tokens fills the end of the answer.
MAX_PERIOD = 96
MIN_REPEATS = 8
MIN_TOKENS = 192

CHECK_EVERY = 16


def is_runaway(tokens: list[int]) -> bool:
    """Whether the end of `tokens` is one passage over and over.

    A passage of p tokens has to fill the last `MIN_TOKENS`, and to come `MIN_REPEATS` times. Tables and lists repeat
    their form, not every token, and are none. Takes time for `MAX_PERIOD` comparisons of slices.
    """
    for period in range(1, min(MAX_PERIOD, len(tokens) // MIN_REPEATS) + 1):
        span = max(MIN_TOKENS, period * MIN_REPEATS)
        if span > len(tokens):
            return False
        if tokens[-1] != tokens[-1 - period]:
            continue
        if tokens[len(tokens) - span + period :] == tokens[len(tokens) - span : -period]:
            return True
    return False
