"""StepCost: how many prompt tokens fit into a step's time target. Integers in, integers out; no clock.

Prefill gets dearer per token the longer the context is, and differs by machine and model, so the cost is measured from
the steps themselves and followed as it changes. It also has a step in it: llama.cpp's CPU attention works on tiles of
64 queries, and a chunk that fills none takes a slower path, by about a quarter at a context of some thousand tokens.
"""

from __future__ import annotations

MIN_TOKENS = 16

# A chunk of this many tokens fills a tile: with a stream per sequence, llama.cpp computes one token of each first.
TILE = 64 + 1


class StepCost:
    """A cost model of one engine: microseconds per prompt token, beyond what decoding alone takes.

    A step takes `target_us`, or up to 1.4 times that where this fills a tile: fewer and cheaper steps in all.
    """

    def __init__(self, num_batch: int, target_us: int) -> None:
        self.num_batch = num_batch
        self.target_us = target_us
        self._decode_us = 0
        # Microseconds per token of steps that fill no tile, and of those that do.
        self._token_us = 0
        self._tile_us = 0
        self._last_budget = 4 * MIN_TOKENS

    def budget(self, num_decoding: int) -> int:
        """Prompt tokens for the next step: the whole batch when nobody decodes, else what the target allows."""
        if num_decoding == 0:
            return self.num_batch
        if self._token_us == 0:
            return min(self._last_budget, self.num_batch)
        # The estimate may stem from a shorter context or a cold cache: grow by steps, shrink at once.
        fits = self._fits(self._decode_us or num_decoding * self._token_us)
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
        if num_prompt < MIN_TOKENS:
            return
        if num_decoding and self._decode_us == 0:
            # Decoding was never seen alone: a decoded token costs about what a prompt token does.
            spent = step_us // (num_prompt + num_decoding)
        else:
            spent = max(1, (step_us - (self._decode_us if num_decoding else 0)) // num_prompt)
        if num_prompt >= TILE:
            self._tile_us = _follow(self._tile_us, spent)
            self._token_us = max(self._token_us, self._tile_us)
        else:
            self._token_us = _follow(self._token_us, spent)
            self._tile_us = max(self._tile_us, 3 * self._token_us // 4)

    def _fits(self, decode_us: int) -> int:
        left = max(self.target_us - decode_us, self.target_us // 4)
        in_tiles = left // max(1, self._tile_us)
        if in_tiles >= TILE:
            return in_tiles - (in_tiles - TILE) % (TILE - 1)
        if decode_us + TILE * self._tile_us <= 7 * self.target_us // 5:
            return TILE
        return min(left // self._token_us, TILE - 1)


def _follow(old: int, new: int) -> int:
    """The mean of old and new; one step that took far too long (a busy machine) counts as twice the old at most."""
    return new if old == 0 else (old + min(new, 2 * old) + 1) // 2
