"""Choosing among the tokens that a grammar allows, with any sampler chain; the thread that finds out which they are.

A chain gets the allowed tokens and no others, so that no stage has to make sense of impossible ones.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from localllm.binding import C
from localllm.engine.constraint import Matcher

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

Work = Sequence[tuple[Matcher, list[int]]]


class MaskedChoice:
    """The choice of one sequence's tokens under its matcher; `banned` ones only where nothing else may be."""

    def __init__(self, matcher: Matcher, banned: Iterable[int]) -> None:
        self.matcher = matcher
        self._banned = np.fromiter(banned, np.int64)

    def choose(self, chain: Any, logits: npt.NDArray[np.float32]) -> int:
        """The next token: drawn by the chain, the likeliest without one. Taken by the matcher."""
        token = self._greedy(logits) if chain is None else self._draw(chain, logits)
        self.matcher.advance(token)
        return token

    def _greedy(self, logits: npt.NDArray[np.float32]) -> int:
        """The likeliest allowed token."""
        token = int(logits.argmax())
        if not self.matcher.allows(token):
            ids = self._ids()
            token = int(ids[logits[ids].argmax()])
        return token

    def _draw(self, chain: Any, logits: npt.NDArray[np.float32]) -> int:
        """A token drawn by a sampler chain, which takes note of it."""
        ids = self._ids()
        token = int(ids[0]) if len(ids) == 1 else _drawn(chain, ids, logits[ids])
        C.llama_sampler_accept(chain, token)
        return token

    def _ids(self) -> npt.NDArray[np.int64]:
        """The tokens to choose from; never none."""
        allowed = self.matcher.allowed()
        if len(self._banned):
            kept = allowed.copy()
            kept[self._banned] = False
            if kept.any():
                allowed = kept
        return np.flatnonzero(allowed)


def _drawn(chain: Any, ids: npt.NDArray[np.int64], logits: npt.NDArray[np.float32]) -> int:
    candidates = np.empty(len(ids), _CANDIDATE)
    candidates["id"] = ids
    candidates["logit"] = logits
    candidates["p"] = 0.0
    array = C.llama_token_data_array(
        data=candidates.ctypes.data_as(ctypes.POINTER(C.llama_token_data)), size=len(ids), selected=-1, sorted=False
    )
    C.llama_sampler_apply(chain, ctypes.byref(array))
    return int(array.data[array.selected].id)


class MaskThread:
    """Finds out what may come next while llama.cpp computes: both let go of Python's lock. Made when first wanted."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, work: Work) -> Future[None] | None:
        """Prepare matchers, each with the drafts of its sequence; wait for the result before asking them anything."""
        if not work:
            return None
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "masks")
        return self._pool.submit(_prepare, work)

    def close(self) -> None:
        """End the thread."""
        if self._pool is not None:
            self._pool.shutdown()


def _prepare(work: Work) -> None:
    for matcher, drafts in work:
        matcher.prepare(drafts)
