"""VerifyCost: what checking drafts costs on this machine, learned from steps. Integers in, integers out; no clock.

A step with drafts computes more rows. Where a device has arithmetic to spare they cost little; a CPU pays for each, and
less for four together than for one. So the cost of a row is kept by how many there are, and apart for steps that
llama.cpp computes in several passes: with a stream per sequence it puts only chunks of equal length into one.
"""

from __future__ import annotations

_PROBE_AFTER = 128


class VerifyCost:
    """Microseconds of a step without drafts, by sequences, and of each draft beyond that, by drafts in the step."""

    def __init__(self) -> None:
        self._plain: dict[int, int] = {}
        self._row: dict[tuple[bool, int], int] = {}
        self._drafting_us = 0
        self._num_since_plain = 0

    def observe(self, num_sequences: int, num_drafts: int, step_us: int, *, split: bool = False) -> None:
        """Learn from a step of `num_sequences` that decode and nothing else."""
        if num_drafts == 0:
            self._num_since_plain = 0
            self._plain[num_sequences] = _follow(self._plain.get(num_sequences, 0), step_us)
            return
        self._num_since_plain += 1
        plain = self.plain_us(num_sequences)
        if plain:
            key = split, num_drafts.bit_length()
            self._row[key] = _follow(self._row.get(key, 0), max(1, (step_us - plain) // num_drafts))

    def observe_drafting(self, num_tokens: int, drafting_us: int) -> None:
        """Learn what a draft model takes for a token."""
        self._drafting_us = _follow(self._drafting_us, drafting_us // max(1, num_tokens))

    def plain_us(self, num_sequences: int) -> int:
        """A step without drafts; 0 while none was measured."""
        known = self._plain.get(num_sequences)
        if known is not None or not self._plain:
            return known or 0
        nearest = min(self._plain, key=lambda num: (abs(num - num_sequences), num))
        return self._plain[nearest]

    def checking_us(self, num_sequences: int, num_drafts: int, *, split: bool = False) -> int:
        """What `num_drafts` add to a step; a guess on the dear side until such a step was measured."""
        size = num_drafts.bit_length()
        for kind in (split, not split):
            sizes = [known for passes, known in self._row if passes is kind]
            if sizes:
                nearest = min(sizes, key=lambda known: (abs(known - size), known))
                again = self.plain_us(num_sequences) // 2 if split and not kind else 0
                return num_drafts * self._row[kind, nearest] + again
        return num_drafts * self.plain_us(num_sequences) // (1 + num_sequences)

    def drafting_us(self, num_tokens: int) -> int:
        """What a draft model takes for so many tokens."""
        return num_tokens * self._drafting_us

    @property
    def wants_plain(self) -> bool:
        """Has it been long since a step without drafts showed what drafts are worth?"""
        return self._num_since_plain >= _PROBE_AFTER


def _follow(old: int, new: int) -> int:
    """A mean of the last few; one slow step moves it by half at most."""
    return new if old == 0 else (3 * old + min(new, 3 * old) + 2) // 4
