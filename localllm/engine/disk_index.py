"""DiskIndex: which prefixes lie on disk, which are on their way, and what is worth writing. Touches no file."""

from __future__ import annotations

from localllm.engine.batch import Stored
from localllm.engine.prefix_tree import PrefixTree

# Below this many tokens more than there are already, computing is as good as a file.
MIN_STORE = 256
MIN_FETCH = 64

# Scopes that begin so mean something in this process only.
PRIVATE = "request "

# A growing conversation is written anew when it has grown by this share, and a file read for this share of it at least.
STORE_SHARE = 8
FETCH_SHARE = 16


class DiskIndex:
    """Prefixes on disk. Lookup is linear in the prompt, whatever the number of prefixes.

    `whole`: a state serves only as a whole, none of its own prefixes.
    """

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        self._tree: PrefixTree[Stored] = PrefixTree()
        self.fetching: dict[Stored, int] = {}
        self.writing: Stored | None = None
        self.replacing: tuple[Stored, ...] = ()

    def add(self, stored: Stored) -> None:
        """Say that a prefix is on disk."""
        self._tree.insert(stored.tokens, stored, stored.scope)

    def remove(self, stored: Stored) -> None:
        """Say that it is not; unknown ones are ignored."""
        self._tree.remove(stored)

    def longest(self, tokens: list[int], scope: str) -> tuple[Stored | None, int]:
        """What holds the most of `tokens`, and how many of them."""
        if self._whole:
            num_tokens, stored = next(self._tree.prefixes(tokens, scope), (0, None))
        else:
            num_tokens, stored = self._tree.longest(tokens, scope)
        return stored, num_tokens

    def better(self, tokens: list[int], num_cached: int, scope: str) -> Stored | None:
        """What is worth reading for `tokens`, of which `num_cached` are at hand."""
        if len(tokens) - num_cached < MIN_FETCH:
            return None
        stored, num_tokens = self.longest(tokens, scope)
        gain = num_tokens - num_cached
        if stored is None or gain < MIN_FETCH or gain * FETCH_SHARE < len(stored.tokens):
            return None
        return stored

    def lacks(self, tokens: list[int], scope: str) -> bool:
        """Is it worth writing `tokens`?"""
        if len(tokens) < MIN_STORE or scope.startswith(PRIVATE):
            return False
        num_stored = self.longest(tokens, scope)[1]
        return len(tokens) - num_stored >= max(MIN_STORE, num_stored // STORE_SHARE)

    def begin(self, tokens: list[int], scope: str) -> Stored:
        """Note that `tokens` are being written; `replacing` are the prefixes that they make superfluous."""
        assert self.writing is None
        self.writing = Stored(tokens, scope)
        covered = () if self._whole else tuple(stored for _, stored in self._tree.prefixes(tokens, scope))
        self.replacing = tuple(stored for stored in covered if stored not in self.fetching)
        return self.writing

    def end(self, stored: Stored, ok: bool) -> None:
        """Note that a write ended."""
        assert stored is self.writing
        if ok:
            self.add(stored)
            for covered in self.replacing:
                self.remove(covered)
        self.writing, self.replacing = None, ()
