"""StepCost: how many prompt tokens fit into a step's time target. Integers in, integers out; no clock.

Prefill gets dearer per token the longer the context is, and differs by machine and model, so the cost is measured from
the steps themselves and followed as it changes.
"""

from __future__ import annotations

MIN_TOKENS = 16


class StepCost:
    """A cost model of one engine: microseconds per prompt token, beyond what decoding alone takes."""

    def __init__(self, num_batch: int, target_us: int) -> None:
        self.num_batch = num_batch
        self.target_us = target_us
        self._decode_us = 0
        self._token_us = 0
        self._last_budget = 4 * MIN_TOKENS

    def budget(self, num_decoding: int) -> int:
        """Prompt tokens for the next step: the whole batch when nobody decodes, else what the target allows."""
        if num_decoding == 0:
            return self.num_batch
        if self._token_us == 0:
            return min(self._last_budget, self.num_batch)
        fits = max(self.target_us - self._decode_us, self.target_us // 4) // self._token_us
        # The estimate may stem from a shorter context or a cold cache: grow by steps, shrink at once.
        self._last_budget = max(MIN_TOKENS, min(fits, 2 * self._last_budget, self.num_batch))
        return self._last_budget

    def observe(self, num_prompt: int, num_decoding: int, step_us: int) -> None:
        """Learn from a step that computed `num_prompt` prompt tokens beside `num_decoding` decoding sequences."""
        if num_prompt == 0:
            self._decode_us = _follow(self._decode_us, step_us)
            return
        if num_decoding:
            # Decoding may have become cheaper since it was last measured alone: it is a part of this step at most.
            self._decode_us = min(self._decode_us, step_us)
        if num_prompt >= MIN_TOKENS:
            spent = step_us - (self._decode_us if num_decoding else 0)
            self._token_us = _follow(self._token_us, max(1, spent // num_prompt))


def _follow(old: int, new: int) -> int:
    return new if old == 0 else (old + new + 1) // 2
