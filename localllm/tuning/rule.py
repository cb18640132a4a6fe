"""How measurements are weighed, and when a gain is one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

MIN_GAIN = 0.03  # less than this is not worth leaving the defaults for
MIN_ROUNDS, MAX_ROUNDS = 3, 6
MAX_EQUAL = 3
SIGMAS = 4  # a search asks some 40 times whether a gain is real: with 3, one in ten took noise for a gain
CLEAR_LOSS = 0.15  # one round this bad settles it

RULE = (
    f"A choice is kept when its median gain over {MIN_ROUNDS} to {MAX_ROUNDS} rounds is above {MIN_GAIN:.0%} and above "
    f"the noise: {SIGMAS} times the standard error, from how much rounds of one comparison differ and two engines with "
    "equal settings. Several choices together must pass the same against the defaults once more."
)

Figures = Mapping[str, float]


class Figure(NamedTuple):
    """Something measured, and its weight in the score."""

    name: str
    weight: float
    unit: str
    words: str
    less_is_better: bool = False


FIGURES = (
    Figure("decode_1", 0.35, "tok/s", "one stream, from its first token to its last"),
    Figure("decode_4", 0.25, "tok/s", "four streams together"),
    Figure("prefill", 0.25, "tok/s", "one prompt, alone"),
    Figure("first_token", 0.15, "s", "the first token of a prompt that arrives beside three streams", True),
)


def gain_of(ratios: Figures) -> float:
    """The score of some ratios, above 1 is better: 0.1 is a tenth faster. Figures that are not there do not count."""
    weight = sum(figure.weight for figure in FIGURES if figure.name in ratios)
    logs = (figure.weight * math.log(ratios[figure.name]) for figure in FIGURES if figure.name in ratios)
    return math.exp(sum(logs) / weight) - 1 if weight else 0.0


def ratios_of(rounds: Sequence[tuple[Figures, Figures]]) -> dict[str, float]:
    """Median ratio of each figure over the rounds, above 1 is better."""
    found: dict[str, float] = {}
    for figure in FIGURES:
        ratios = [_ratio(figure, ours, base) for ours, base in rounds if figure.name in ours and figure.name in base]
        if ratios:
            found[figure.name] = statistics.median(ratios)
    return found


class Spread:
    """How far rounds of one comparison lie apart: the standard deviation of a round's gain, from all rounds so far.

    A round that something else on the machine disturbed counts, but no more than the widest of the others.
    """

    def __init__(self) -> None:
        self._residuals: list[float] = []

    def add(self, gains: Sequence[float], *, expected: float | None = None) -> None:
        """Take in the rounds of one comparison; `expected` is their true gain where that is known."""
        self._residuals += _residuals(gains, expected)

    def sigma(self, gains: Sequence[float] = ()) -> float:
        """The deviation, with the rounds of one more comparison; larger while few rounds are known."""
        found = self._residuals + _residuals(gains, None)
        if not found:
            return math.inf
        widest = 3 * 1.4826 * statistics.median(found)  # three standard deviations, where they are normal
        mean = statistics.fmean(min(residual, widest) ** 2 for residual in found)
        return math.sqrt(mean) * (1 + 1.5 / len(found))


def _residuals(gains: Sequence[float], expected: float | None) -> list[float]:
    """How far each round is from the true gain. The median in its place is nearer than that, and hits one exactly."""
    if expected is not None:
        return [abs(gain - expected) for gain in gains]
    if len(gains) < 2:
        return []
    middle = statistics.median(gains)
    _, *others = sorted(abs(gain - middle) for gain in gains)
    return [math.sqrt(len(gains) / len(others)) * residual for residual in others]


def noise_of(num_rounds: int, sigma: float) -> float:
    """What the median gain of so many rounds must be above."""
    return SIGMAS * sigma / math.sqrt(num_rounds)


def decide(gain: float, num_rounds: int, sigma: float) -> Literal["kept", "no gain", "worse", "open"]:
    """What the median gain of some rounds says, by `RULE`; `sigma` is a round's deviation. "open": go on."""
    if not num_rounds:
        return "open"
    bar = max(MIN_GAIN, noise_of(num_rounds, sigma))
    if gain < -max(bar, CLEAR_LOSS if num_rounds == 1 else 0.0):
        return "worse"
    if num_rounds > 1 and gain < -bar / 2:
        return "no gain"
    if num_rounds < MIN_ROUNDS:
        return "open"
    if gain > bar:
        return "kept"
    return "no gain" if gain <= bar / 3 or num_rounds >= MAX_ROUNDS else "open"


def _ratio(figure: Figure, figures: Figures, baseline: Figures) -> float:
    """Of two positive figures, above 1 is better."""
    ours, base = max(figures[figure.name], 1e-9), max(baseline[figure.name], 1e-9)
    return base / ours if figure.less_is_better else ours / base
