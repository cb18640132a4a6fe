"""Speculator: guesses what comes next for decoding sequences, where checking guesses takes less time than it saves.

Guesses are copied from where the same words stood before, in the sequence itself or in what was said lately, or come
from a draft model or from layers of the model itself. Whether they pay is measured, request by request; text that
cannot be guessed is soon left alone. No clock, no I/O: the engine tells how long steps took. Never changes what is
generated, only when.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from localllm.engine.batch import Batch
from localllm.engine.scheduler import Output
from localllm.engine.sequence import Sequence, SequenceStatus
from localllm.engine.speculate_cost import VerifyCost
from localllm.engine.speculate_ngrams import MAX_MATCH, NgramIndex
from localllm.engine.speculate_odds import MODEL, Fund, Odds, Purse, kind_of
from localllm.engine.speculate_plan import Offer, Planner

# Tokens that are remembered of one sequence, and of all that ended. About 200 bytes each.
OWN_TOKENS = 1 << 15
SHARED_TOKENS = 1 << 15


class Drafter(Protocol):
    """A small model that guesses, or layers of the model itself."""

    def follow(self, sequence: Sequence) -> None:
        """A sequence is about to begin that may be asked about."""
        ...

    def draft(self, sequences: list[Sequence], num_tokens: int) -> list[list[int]]:
        """The next `num_tokens` of each; nothing for those whose text it has yet to read."""
        ...

    def forget(self, sequence_id: int) -> None:
        """Let go of a sequence; unknown ids are ignored."""
        ...


@dataclass(slots=True)
class _Trail:
    """The place a sequence is being copied from: the next token stands at `position` of `source`.

    The last `length` tokens agreed. After one that did not, the trail goes on behind it: a word was replaced.
    """

    source: NgramIndex
    position: int
    length: int


@dataclass(slots=True)
class _Follower:
    """What is known of one sequence."""

    sequence: Sequence
    odds: Odds
    index: NgramIndex = field(default_factory=lambda: NgramIndex(OWN_TOKENS))
    purse: Purse | None = None
    num_indexed: int = 0
    trail: _Trail | None = None


@dataclass(frozen=True, slots=True)
class _Planned:
    """What a sequence's drafts in the step under way are, and what they cost."""

    kind: int
    price_us: int


@dataclass(slots=True)
class _Step:
    """The step under way. `unit_us`: what a token takes without drafts, by sequence."""

    unit_us: dict[int, int] = field(default_factory=dict)
    planned: dict[int, _Planned] = field(default_factory=dict)
    num_by_model: int = 0


class Speculator:
    """Sets `Sequence.drafts` before a step and learns from it after.

    `max_drafts` bounds the drafts of one sequence. `is_split`: llama.cpp computes chunks of unequal length in passes of
    their own (a stream per sequence).
    """

    def __init__(self, max_drafts: int, *, is_split: bool = False, drafter: Drafter | None = None) -> None:
        self._max_drafts = max_drafts
        self._is_split = is_split
        self._drafter = drafter
        self._cost = VerifyCost()
        self._planner = Planner(self._cost, is_split=is_split)
        self._odds = Odds()
        self._fund = Fund()
        self._shared = NgramIndex(SHARED_TOKENS)
        self._followers: dict[int, _Follower] = {}
        self._step = _Step()

    def open(self, sequence: Sequence) -> None:
        """Draft for a sequence from now on, until it ends."""
        self._followers[sequence.id] = _Follower(sequence, Odds(self._odds))
        if self._drafter is not None:
            self._drafter.follow(sequence)

    def draft(self, decoding: list[Sequence]) -> None:
        """Set the drafts of `decoding`: all that have a slot, or nothing where prompts are to be computed too."""
        self._close_ended()
        self._step = _Step()
        groups: dict[str, list[Sequence]] = {}
        for sequence in decoding:
            sequence.drafts = []
            groups.setdefault(sequence.group, []).append(sequence)
        for sequences in groups.values():
            self._draft_group(sequences)

    def observe(self, batch: Batch, outputs: list[Output], step_us: int, drafting_us: int = 0) -> None:
        """Learn from the step that followed `draft`. `drafting_us`: what `draft` took."""
        step = self._step
        num_drafts = {chunk.sequence_id: chunk.num_drafts for chunk in batch.chunks}
        lengths = {len(chunk.tokens) for chunk in batch.chunks}
        if all(
            chunk.sequence_id in step.unit_us and len(chunk.tokens) == 1 + chunk.num_drafts for chunk in batch.chunks
        ):
            split = self._is_split and len(lengths) > 1
            self._cost.observe(len(batch.chunks), sum(num_drafts.values()), step_us, split=split)
        if step.num_by_model:
            self._cost.observe_drafting(step.num_by_model, drafting_us)
        for output in outputs:
            sequence_id = output.sequence.id
            follower, unit_us = self._followers.get(sequence_id), step.unit_us.get(sequence_id, 0)
            if follower is None or follower.purse is None or not unit_us:
                continue
            planned = step.planned.get(sequence_id)
            if planned is None or not num_drafts[sequence_id]:
                follower.purse.earn(unit_us)
                continue
            num_accepted = output.sampled.num_accepted
            follower.odds.observe(planned.kind, num_drafts[sequence_id], num_accepted)
            follower.purse.settle(num_accepted * unit_us - planned.price_us, unit_us)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _close_ended(self) -> None:
        """Let go of sequences that ended; what they said may serve others."""
        ended = [each for each in self._followers.values() if each.sequence.status is SequenceStatus.FINISHED]
        for follower in ended:
            sequence = follower.sequence
            del self._followers[sequence.id]
            if self._drafter is not None:
                self._drafter.forget(sequence.id)
            if follower.purse is not None:
                self._fund.give_back(follower.purse.us)
            # What was found in the cache is here already.
            self._shared.extend(sequence.tokens[sequence.num_cached :][-SHARED_TOKENS // 4 :])
            self._shared.end_text()

    def _draft_group(self, sequences: list[Sequence]) -> None:
        """Set the drafts of sequences that share a step."""
        num = len(sequences)
        unit_us = self._cost.plain_us(num) // num
        self._step.unit_us |= dict.fromkeys((sequence.id for sequence in sequences), unit_us)
        if not unit_us:
            return
        guesses: dict[int, list[int]] = {}
        offers = [offer for each in sequences if (offer := self._offer(each, unit_us, guesses)) is not None]
        plan = self._planner.choose(offers, num) if offers else None
        if plan is None:
            return
        by_model = [offer.sequence_id for offer in plan.offers if offer.kind == MODEL]
        guesses |= self._ask_model(by_model, plan.size)
        for offer in plan.offers:
            if guess := guesses.get(offer.sequence_id):
                self._followers[offer.sequence_id].sequence.drafts = guess[: plan.size]
                self._step.planned[offer.sequence_id] = _Planned(offer.kind, self._planner.price_us(offer, plan))

    def _offer(self, sequence: Sequence, unit_us: int, guesses: dict[int, list[int]]) -> Offer | None:
        """What could be drafted for a sequence; copied tokens go to `guesses`."""
        follower = self._followers.get(sequence.id)
        if follower is None:
            return None
        if follower.purse is None:
            follower.purse = Purse(self._fund.draw(unit_us))
        num_tokens = self._max_drafts
        if sequence.max_tokens is not None:
            num_tokens = min(num_tokens, sequence.max_tokens - sequence.num_output - 1)
        if num_tokens <= 0:
            return None
        _index_new(follower)
        self._find(follower)
        guess = _read(follower, num_tokens)
        kind = kind_of(follower.trail.length) if guess and follower.trail is not None else MODEL
        if self._drafter is not None and kind != MODEL and follower.odds.of(MODEL) > follower.odds.of(kind):
            kind = MODEL
        if kind == MODEL:
            if self._drafter is None:
                return None
        else:
            guesses[sequence.id] = guess
            num_tokens = len(guess)
        return Offer(sequence.id, kind, follower.odds.of(kind), num_tokens, follower.purse)

    def _find(self, follower: _Follower) -> None:
        """Find the best place to copy from: the trail that is followed, unless another agrees for longer."""
        length = follower.trail.length if follower.trail is not None else -1
        if length >= MAX_MATCH:
            return
        tokens = follower.sequence.tokens
        for source, own in ((follower.index, True), (self._shared, False)):
            position, agreeing = source.longest(tokens, own=own)
            if agreeing and agreeing > length:
                follower.trail = _Trail(source, position, agreeing)
                length = agreeing

    def _ask_model(self, sequence_ids: list[int], num_tokens: int) -> dict[int, list[int]]:
        if self._drafter is None or not sequence_ids:
            return {}
        sequences = [self._followers[sequence_id].sequence for sequence_id in sequence_ids]
        guesses = self._drafter.draft(sequences, num_tokens)
        if all(guesses):
            self._step.num_by_model += num_tokens * len(guesses)
        return dict(zip(sequence_ids, guesses, strict=True))


def _index_new(follower: _Follower) -> None:
    """Take in what was generated since: the trail goes along, and ends where two tokens running do not agree."""
    new = follower.sequence.tokens[max(follower.num_indexed, len(follower.sequence.tokens) - OWN_TOKENS) :]
    follower.num_indexed = len(follower.sequence.tokens)
    trail = follower.trail
    for token in new:
        if trail is None:
            break
        if trail.source.read(trail.position, 1) == [token]:
            trail.length += 1
        elif trail.length:
            trail.length = 0
        else:
            trail = None
            break
        trail.position += 1
    follower.trail = trail
    follower.index.extend(new)


def _read(follower: _Follower, num_tokens: int) -> list[int]:
    """The tokens that the trail leads to. Where it ends with the sequence itself, the text repeats: go round."""
    trail = follower.trail
    if trail is None:
        return []
    found = trail.source.read(trail.position, num_tokens)
    if trail.source is follower.index and 0 < len(found) < num_tokens:
        found = (found * (num_tokens // len(found) + 1))[:num_tokens]
    return found
