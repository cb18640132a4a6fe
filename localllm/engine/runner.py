"""Runner: the seam between deciding and computing. The engine drives one; `LlamaRunner` is the real one."""

from __future__ import annotations

from typing import Protocol

from localllm.api import SamplingParams
from localllm.engine.batch import Batch, Sampled


class NoSpaceError(Exception):
    """The cells did not suffice for a batch; nothing was computed and the memory is as before."""


class Runner(Protocol):
    """Carries out batches. One thread calls it."""

    def open(self, sequence_id: int, params: SamplingParams, prompt: list[int]) -> None:
        """Prepare to sample for a sequence."""
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

    def close(self) -> None:
        """Give all memory back."""
        ...
