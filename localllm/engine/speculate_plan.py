"""Plan: how many drafts a step checks, and whose. Pure arithmetic over offers, odds, purses and measured costs.

All who take part get the same number: with a stream per sequence every further chunk length costs another pass.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass

from localllm.engine.speculate_cost import VerifyCost
from localllm.engine.speculate_odds import MODEL, ONE, Purse, expected

# With the token that comes anyway these make rows of 2 and of multiples of 4, which CPU kernels compute together.
SIZES = (1, 3, 7, 15, 31)

# Steps without drafts after which one that is not likely to pay may be tried.
TRY_AFTER = 32


@dataclass(frozen=True, slots=True)
class Offer:
    """Drafts that could be made for one sequence: at most `num_tokens`, each right with `chance` (of ONE)."""

    sequence_id: int
    kind: int
    chance: int
    num_tokens: int
    purse: Purse


@dataclass(frozen=True, slots=True)
class Plan:
    """`size` drafts for each of `offers`. `share_us`: what this adds to the step for each of them."""

    size: int
    offers: tuple[Offer, ...]
    share_us: int


class Planner:
    """Chooses the plan that saves most time. `is_split`: a step takes a further pass unless all have drafts."""

    def __init__(self, cost: VerifyCost, *, is_split: bool) -> None:
        self._cost = cost
        self._is_split = is_split

    def choose(self, offers: Many[Offer], num_sequences: int) -> Plan | None:
        """The best plan for a step of `num_sequences`; None where drafts are not worth their cost."""
        unit_us = self._cost.plain_us(num_sequences) // num_sequences
        if unit_us == 0 or self._cost.wants_plain:
            return None
        best: Plan | None = None
        most = 0
        for size in SIZES:
            plan = self._of_size(size, offers, num_sequences, unit_us)
            if plan is None:
                continue
            gain = sum(_worth(offer, size, unit_us) - self._price(offer, plan.share_us, size) for offer in plan.offers)
            if gain > most:
                best, most = plan, gain
        return best or self._trial(offers, num_sequences, unit_us)

    def price_us(self, offer: Offer, plan: Plan) -> int:
        """What one offer of a plan costs."""
        return self._price(offer, plan.share_us, plan.size)

    def _of_size(self, size: int, offers: Many[Offer], num_sequences: int, unit_us: int) -> Plan | None:
        """Those for whom `size` drafts pay, given that all of these take part."""
        chosen = [offer for offer in offers if offer.num_tokens >= size]
        while chosen:
            share_us = self._share(size, len(chosen), num_sequences)
            good = [offer for offer in chosen if self._pays(offer, size, share_us, unit_us)]
            if len(good) == len(chosen):
                return Plan(size, tuple(chosen), share_us)
            chosen = good
        return None

    def _trial(self, offers: Many[Offer], num_sequences: int, unit_us: int) -> Plan | None:
        """One draft that is not likely to pay, where a purse has plenty: what was wrong long ago may be right now."""
        able = [offer for offer in offers if offer.num_tokens >= 1 and offer.purse.num_idle >= TRY_AFTER]
        if not able:
            return None
        offer = max(able, key=lambda able: able.chance)
        share_us = self._share(1, 1, num_sequences)
        if offer.purse.us < 2 * max(unit_us, self._price(offer, share_us, 1)):
            return None
        return Plan(1, (offer,), share_us)

    def _pays(self, offer: Offer, size: int, share_us: int, unit_us: int) -> bool:
        price_us = self._price(offer, share_us, size)
        return offer.purse.us >= price_us and 8 * _worth(offer, size, unit_us) > 9 * price_us

    def _share(self, size: int, num_chosen: int, num_sequences: int) -> int:
        split = self._is_split and num_chosen < num_sequences
        return self._cost.checking_us(num_sequences, size * num_chosen, split=split) // num_chosen

    def _price(self, offer: Offer, share_us: int, size: int) -> int:
        return share_us + (self._cost.drafting_us(size) if offer.kind == MODEL else 0)


def _worth(offer: Offer, size: int, unit_us: int) -> int:
    return expected(offer.chance, size) * unit_us // ONE
