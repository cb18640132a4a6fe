"""DraftRoom: how many drafts a step takes. Drafts come last: they take no cell and no place that anybody needs."""

from __future__ import annotations

from collections.abc import Iterable

from localllm.engine.batch import Op
from localllm.engine.kv_cache import KVCache
from localllm.engine.sequence import Sequence

# Steps without drafts after one whose drafts found no cells.
CRAMPED_STEPS = 32


class DraftRoom:
    """Bounds the drafts of decoding sequences, and takes them back where llama.cpp found no cells for a step."""

    def __init__(self, cache: KVCache, num_ctx: int) -> None:
        self._cache = cache
        self._num_ctx = num_ctx
        self._num_cramped = 0

    def bound(self, decoding: list[Sequence], num_tokens: int, ops: list[Op]) -> None:
        """Keep as many drafts as a step of `num_tokens`, the contexts and the free cells have room for."""
        room = num_tokens - sum(running.num_left for running in decoding)
        self._num_cramped = max(0, self._num_cramped - 1)
        for running in decoding:
            assert running.slot is not None
            free = 0 if self._num_cramped or not self._cache.can_trim else self._cache.num_spare(running.slot)
            num_drafts = max(0, min(room, free, self._num_ctx - len(running.tokens), len(running.drafts)))
            running.drafts = running.drafts[:num_drafts]
            room -= num_drafts
            if num_drafts:
                self._cache.reserve(running.slot, len(running.tokens) + num_drafts, ops)

    def drop(self, running: Iterable[Sequence]) -> bool:
        """Give back the cells of all drafts, and take none for some steps. False: there were none."""
        drafting = [sequence for sequence in running if sequence.drafts]
        for sequence in drafting:
            assert sequence.slot is not None
            self._cache.unreserve(sequence.slot, len(sequence.tokens))
            sequence.drafts = []
        self._num_cramped = CRAMPED_STEPS if drafting else 0
        return bool(drafting)
