"""VerifyCost: what checking drafts costs on this machine, learned from steps. Integers in, integers out; no clock.

A step with drafts computes more rows. Where a device has arithmetic to spare they cost little; a CPU pays for each, and
less for four together than for one. So the cost of a row is kept by how many there are, and apart for steps that
llama.cpp computes in several passes: with a stream per sequence it puts only chunks of equal length into one.
"""

from __future__ import annotations

# Steps with drafts after which one without shows again what they are worth.
PROBE_AFTER = 128


class VerifyCost:
    """Microseconds of a step without drafts, by sequences, and of each draft beyond that, by drafts in the step.

    A step that takes far more or less than expected teaches nothing by itself: something else may have run beside it.
    A step without drafts tells then whether the whole machine has become slower, or drafts dearer.
    """

    def __init__(self) -> None:
        self._plain: dict[int, int] = {}
        self._row: dict[tuple[bool, int], int] = {}
        self._drafting_us = 0
        self._num_since_plain = 0
        self._is_surprised = False
        self._trusts = False

    def observe(self, num_sequences: int, num_drafts: int, step_us: int, *, split: bool = False) -> None:
        """Learn from a step of `num_sequences` that decode and nothing else."""
        if num_drafts == 0:
            self._observe_plain(num_sequences, step_us)
            return
        self._num_since_plain += 1
        plain = self.plain_us(num_sequences)
        if not plain:
            return
        key = split, num_drafts.bit_length()
        expected = plain + self.checking_us(num_sequences, num_drafts, split=split)
        if key in self._row and not self._trusts and _differs(step_us, expected):
            self._is_surprised = True
            return
        self._trusts = False
        # A step may look free by chance: nothing is believed to be that at once.
        row = max((step_us - plain) // num_drafts, plain // (16 * num_sequences) if key not in self._row else 1)
        self._row[key] = _follow(self._row.get(key, 0), row)

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
        """What `num_drafts` add to a step; half of what a sequence takes each until such a step was measured."""
        plain = self.plain_us(num_sequences)
        row, kind = self._nearest(num_drafts.bit_length(), split), split
        if row is None and split:
            row, kind = self._nearest(num_drafts.bit_length(), False), False
        if row is None:
            row = plain // (2 * num_sequences)
        # A pass more is not measured yet.
        return num_drafts * row + (plain // 2 if kind is not split else 0)

    def _nearest(self, size: int, split: bool) -> int | None:
        """What a row costs in steps of about that size."""
        sizes = [known for kind, known in self._row if kind is split]
        return self._row[split, min(sizes, key=lambda known: (abs(known - size), known))] if sizes else None

    def drafting_us(self, num_tokens: int) -> int:
        """What a draft model takes for so many tokens."""
        return num_tokens * self._drafting_us

    @property
    def wants_plain(self) -> bool:
        """Should the next step have no drafts, to show what they are worth?"""
        return self._is_surprised or self._num_since_plain >= PROBE_AFTER

    def _observe_plain(self, num_sequences: int, step_us: int) -> None:
        known = self._plain.get(num_sequences, 0)
        if known and self._is_surprised and _differs(step_us, known):
            # All of it has become slower or faster.
            self._plain = {num: us * step_us // known for num, us in self._plain.items()}
            self._row = {key: max(1, us * step_us // known) for key, us in self._row.items()}
            self._drafting_us = self._drafting_us * step_us // known
        else:
            self._trusts = self._is_surprised
            self._plain[num_sequences] = _follow(known, step_us)
        self._is_surprised = False
        self._num_since_plain = 0


def _differs(us: int, expected_us: int) -> bool:
    return not 3 * expected_us < 5 * us < 8 * expected_us


def _follow(old: int, new: int) -> int:
    """A mean of the last few; one odd step moves it by half at most."""
    return new if old == 0 else (3 * old + max(old // 3, min(new, 3 * old)) + 2) // 4
