"""Runner: the seam between deciding and computing. The engine drives one; `LlamaRunner` is the real one."""

from __future__ import annotations

from typing import Any, Protocol

from localllm.api import SamplingParams, TokenLogprob
from localllm.engine.adapter_set import AdapterSet
from localllm.engine.batch import Batch, Sampled
from localllm.engine.constraint import Grammar


class NoSpaceError(Exception):
    """The cells did not suffice for a batch; nothing was computed and the memory is as before."""


class Runner(Protocol):
    """Carries out batches. One thread calls it."""

    def open(
        self, sequence_id: int, params: SamplingParams, prompt: list[int], num_prompt_logprobs: int | None = None
    ) -> None:
        """Prepare to sample for a sequence, and to score its prompt with so many alternatives (None: not)."""
        ...

    def scores(self, sequence_id: int) -> tuple[TokenLogprob, ...]:
        """The log probabilities of a scored prompt's tokens, from the second on; once only, when it is computed."""
        ...

    def adapt(self, sequence_id: int, adapters: AdapterSet) -> None:
        """Compute an open sequence with these adapters; a step holds sequences of one set only."""
        ...

    def bind(self, sequence_id: int, grammar: Grammar) -> None:
        """Let an open sequence generate only what follows a grammar."""
        ...

    def accept(self, sequence_id: int, tokens: tuple[int, ...]) -> None:
        """Let a sequence's sampler know of tokens that it did not choose."""
        ...

    def release(self, sequence_id: int) -> None:
        """Forget a sequence's sampler; unknown ids are ignored."""
        ...

    def run(self, batch: Batch) -> list[Sampled]:
        """Carry out the operations and compute the chunks; one Sampled for each chunk that asked, in order.

        Raises NoSpaceError when llama.cpp finds no cells.
        """
        ...

    def keep(self, key: int, state: Any) -> None:
        """Take a state that was read from disk as the saved state `key`."""
        ...

    def close(self) -> None:
        """Give all memory back."""
        ...
