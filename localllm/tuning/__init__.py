"""What `localllm tune` may choose, and the rule by which it chooses. Pure: no engine, no file, no clock of its own.

From the defaults, one choice after another is tried against the best so far. Both are measured turn about, in rounds. A
round's gain is the weighted mean of the logarithms of the figures' ratios, so that twice as fast and half as fast
cancel out. What stays within the noise is not kept.
"""

from localllm.tuning.choices import Base, Candidate, Choices, candidates
from localllm.tuning.rule import (
    FIGURES,
    MAX_EQUAL,
    MAX_ROUNDS,
    MIN_ROUNDS,
    RULE,
    Figures,
    Spread,
    decide,
    gain_of,
    ratios_of,
)
from localllm.tuning.search import Clock, Measurer, Outcome, Trial, changed, describe, search

__all__ = [
    "FIGURES",
    "MAX_EQUAL",
    "MAX_ROUNDS",
    "MIN_ROUNDS",
    "RULE",
    "Base",
    "Candidate",
    "Choices",
    "Clock",
    "Figures",
    "Measurer",
    "Outcome",
    "Spread",
    "Trial",
    "candidates",
    "changed",
    "decide",
    "describe",
    "gain_of",
    "ratios_of",
    "search",
]
