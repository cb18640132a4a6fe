"""Sequence: one request's tokens and where they stand. Owns counters only; decides nothing."""

from __future__ import annotations

import enum


class SequenceStatus(enum.Enum):
    """Where a sequence stands in its life."""

    WAITING = "waiting"
    PREFILL = "prefill"
    DECODE = "decode"
    FINISHED = "finished"


class Sequence:
    """The tokens of one request: the prompt, then what was generated.

    `num_computed` tokens have their keys and values in the cache. `num_cached` of the prompt were found there and never
    computed for this request. `slot` is the llama.cpp sequence id while the sequence has one. `waits_for` names a
    running sequence and how many tokens of their common prefix it will have computed. `drafts` are guesses at what
    comes after `tokens`, for the next step to check; whoever makes them sets them before each. `scope` is everything
    besides tokens that decides keys and values, as text that means the same in every process; see KVCache. `priority`
    and `client` decide its place in the queue. Only sequences of one `group` share a step. `alone`: its steps are of a
    fixed shape. `scored`: every token of its prompt is wanted with its probability. Both compute all themselves, and
    leave nothing behind.
    """

    __slots__ = (
        "alone",
        "client",
        "drafts",
        "group",
        "id",
        "max_tokens",
        "num_cached",
        "num_computed",
        "num_preemptions",
        "num_prompt",
        "order",
        "priority",
        "scope",
        "scored",
        "slot",
        "status",
        "tokens",
        "waits_for",
    )

    def __init__(
        self,
        id: int,
        prompt: list[int],
        max_tokens: int | None,
        order: int,
        scope: str = "",
        *,
        priority: int = 0,
        client: str = "",
        group: str = "",
        alone: bool = False,
        scored: bool = False,
    ) -> None:
        self.id = id
        self.tokens = prompt
        self.num_prompt = len(prompt)
        self.num_computed = 0
        self.num_cached = 0
        self.num_preemptions = 0
        self.max_tokens = max_tokens
        self.order = order
        self.scope = scope
        self.priority = priority
        self.client = client
        self.group = group
        self.alone = alone
        self.scored = scored
        self.slot: int | None = None
        self.drafts: list[int] = []
        self.waits_for: tuple[Sequence, int] | None = None
        self.status = SequenceStatus.WAITING

    @property
    def rank(self) -> tuple[int, int]:
        """Who goes before whom where there is not enough for all: the smaller rank."""
        return -self.priority, self.order

    @property
    def is_fresh(self) -> bool:
        """Whether it reuses nothing and leaves nothing behind."""
        return self.alone or self.scored

    @property
    def num_output(self) -> int:
        """Tokens generated so far."""
        return len(self.tokens) - self.num_prompt

    @property
    def output(self) -> list[int]:
        """The tokens generated so far."""
        return self.tokens[self.num_prompt :]

    @property
    def num_left(self) -> int:
        """Tokens known but not computed yet: the rest of the prompt; while decoding 1, and what a constraint forced."""
        return len(self.tokens) - self.num_computed

    def __repr__(self) -> str:
        return (
            f"Sequence({self.id}, {self.status.value}, {self.num_computed}/{len(self.tokens)} tokens, slot {self.slot})"
        )
