"""From answers to figures, and from rounds to medians and ratios. Pure."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from serving.target import Answer

Figures = dict[str, float]

# Figures that are counts: over the rounds they are added, and no ratio is made of them.
COUNTS = ("num_requests", "num_failed", "num_valid", "num_schema_bound", "num_estimated")
# Figures where more is better.
MORE_IS_BETTER = ("tokens_per_s", "cached_share")
NO_RATIO = (*COUNTS, "prompt_tokens", "output_tokens", "client_cpu_share", "client_lag_p99_s", "cached_share")


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def gaps(answer: Answer, since: float = -math.inf) -> list[float]:
    """Seconds between pieces of one answer that follow each other; only gaps that end after `since`."""
    return [later - earlier for earlier, later in itertools.pairwise(answer.arrivals) if later > since]


def figures_of(
    answers: Sequence[Answer], *, streams: Sequence[Answer] | None = None, since: float = -math.inf
) -> Figures:
    """The figures of a workload's answers. Failed ones are counted and otherwise left out.

    First tokens and gaps are those of `streams` (None: of all answers), gaps only after `since`; tokens per second are
    all answers' output over the time from the first request to the last end.
    """
    whole = [answer for answer in answers if not answer.failed]
    figures: Figures = {"num_requests": len(answers), "num_failed": len(answers) - len(whole)}
    shown = [answer for answer in (answers if streams is None else streams) if not answer.failed]
    if not whole or not shown:
        return figures
    wall_s = max(answer.ended for answer in whole) - min(answer.began for answer in whole)
    firsts = [answer.first_token_s for answer in shown]
    between = [gap for answer in shown for gap in gaps(answer, since)]
    figures |= {
        "first_token_p50_s": statistics.median(firsts),
        "first_token_max_s": max(firsts),
        "wall_s": wall_s,
        "tokens_per_s": sum(answer.num_output for answer in whole) / wall_s,
        "prompt_tokens": sum(answer.num_prompt for answer in whole),
        "output_tokens": sum(answer.num_output for answer in whole),
        "num_estimated": sum(answer.estimated for answer in whole),
    }
    if between:
        figures |= {
            "gap_p50_s": percentile(between, 0.5),
            "gap_p99_s": percentile(between, 0.99),
            "longest_stall_s": max(between),
        }
    if figures["prompt_tokens"] and all(answer.num_cached is not None for answer in whole):
        figures["cached_share"] = sum(answer.num_cached or 0 for answer in whole) / figures["prompt_tokens"]
    return figures


def over_rounds(rounds: Iterable[Figures]) -> Figures:
    """The median of each figure over the rounds that have it; counts are added."""
    by_name: dict[str, list[float]] = {}
    for figures in rounds:
        for name, value in figures.items():
            by_name.setdefault(name, []).append(value)
    return {name: sum(values) if name in COUNTS else statistics.median(values) for name, values in by_name.items()}


def ratios(figures: Mapping[str, float], reference: Mapping[str, float]) -> Figures:
    """Each figure as a multiple of the reference's; without counts, and where the reference has none or 0."""
    return {
        name: value / reference[name] for name, value in figures.items() if name not in NO_RATIO and reference.get(name)
    }
