"""PrefixTree: who holds which token prefix. A radix tree over tokens; lookup is linear in the prompt's length."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

H = TypeVar("H", bound=Hashable)


class _Node(Generic[H]):
    __slots__ = ("children", "depth", "ends", "holders", "parent", "tokens")

    def __init__(self, parent: _Node[H] | None, tokens: list[int], depth: int) -> None:
        self.parent = parent
        self.tokens = tokens
        self.depth = depth  # tokens from the root to the end of this node
        self.children: dict[int, _Node[H]] = {}
        # Sets that keep their order, so that every run decides alike: who passes through, and whose tokens end here.
        self.holders: dict[H, None] = {}
        self.ends: dict[H, None] = {}


class PrefixTree(Generic[H]):
    """Maps token sequences to holders (slots, saved states). A holder has one sequence at a time, in one scope.

    Scopes share nothing: equal tokens of two scopes never match.
    """

    def __init__(self) -> None:
        self._roots: dict[str, _Node[H]] = {}
        self._leaves: dict[H, _Node[H]] = {}
        self._scopes: dict[H, str] = {}

    def __contains__(self, holder: H) -> bool:
        return holder in self._leaves

    def insert(self, tokens: list[int], holder: H, scope: str = "") -> None:
        """Say that `holder` holds `tokens`, replacing what it held. Linear in `tokens`."""
        self.remove(holder)
        if not tokens:
            return
        node, at = self._roots.setdefault(scope, _Node(None, [], 0)), 0
        while at < len(tokens):
            child = node.children.get(tokens[at])
            if child is None:
                child = _Node(node, tokens[at:], len(tokens))
                node.children[tokens[at]] = child
                at = len(tokens)
            else:
                common = _common(child.tokens, tokens, at)
                if common < len(child.tokens):
                    child = self._split(child, common)
                at += common
            child.holders[holder] = None
            node = child
        node.ends[holder] = None
        self._leaves[holder] = node
        self._scopes[holder] = scope

    def remove(self, holder: H) -> None:
        """Forget `holder`; unknown ones are ignored."""
        node = self._leaves.pop(holder, None)
        if node is None:
            return
        del node.ends[holder]
        while (parent := node.parent) is not None:
            del node.holders[holder]
            if not node.holders:
                del parent.children[node.tokens[0]]
            elif len(node.children) == 1 and not node.ends:
                self._merge(node)
            node = parent
        scope = self._scopes.pop(holder)
        if not node.children:
            del self._roots[scope]

    def match(self, tokens: list[int], scope: str = "") -> Iterator[tuple[int, list[H]]]:
        """Yield (number of matching leading tokens, holders), deepest first.

        A holder is yielded at its own deepest match, once. Takes time for every holder it yields.
        """
        below: dict[H, None] = {}
        for depth, node in reversed(self._path(tokens, scope)):
            fresh = [holder for holder in node.holders if holder not in below]
            if fresh:
                yield depth, fresh
                below = node.holders

    def longest(self, tokens: list[int], scope: str = "") -> tuple[int, H | None]:
        """The most leading tokens that anyone holds, and who came last of those that hold them."""
        path = self._path(tokens, scope)
        if not path:
            return 0, None
        depth, node = path[-1]
        return depth, next(reversed(node.holders))

    def prefixes(self, tokens: list[int], scope: str = "") -> Iterator[tuple[int, H]]:
        """Yield (number of tokens, holder) of those who hold a prefix of `tokens` and nothing else, longest first."""
        for depth, node in reversed(self._path(tokens, scope)):
            if depth == node.depth:
                for holder in node.ends:
                    yield depth, holder

    def others(self, holder: H) -> list[H]:
        """Who else holds everything that `holder` holds."""
        leaf = self._leaves.get(holder)
        return [] if leaf is None else [other for other in leaf.holders if other != holder]

    def _path(self, tokens: list[int], scope: str) -> list[tuple[int, _Node[H]]]:
        """The nodes that `tokens` runs through, each with the number of tokens that match up to there."""
        path: list[tuple[int, _Node[H]]] = []
        node, at = self._roots.get(scope), 0
        while node is not None and at < len(tokens) and (child := node.children.get(tokens[at])) is not None:
            at += _common(child.tokens, tokens, at)
            path.append((at, child))
            if at < child.depth:
                break
            node = child
        return path

    def _split(self, node: _Node[H], at: int) -> _Node[H]:
        """Cut `node` after `at` of its tokens; return the new upper part."""
        assert node.parent is not None
        upper = _Node(node.parent, node.tokens[:at], node.depth - len(node.tokens) + at)
        upper.holders = dict(node.holders)
        node.parent.children[node.tokens[0]] = upper
        node.tokens = node.tokens[at:]
        node.parent = upper
        upper.children[node.tokens[0]] = node
        return upper

    def _merge(self, node: _Node[H]) -> None:
        """Join `node`, where nobody ends, with its only child."""
        (child,) = node.children.values()
        node.tokens = node.tokens + child.tokens
        node.depth = child.depth
        node.children = child.children
        node.ends = child.ends
        for grandchild in node.children.values():
            grandchild.parent = node
        for holder in node.ends:
            self._leaves[holder] = node


def _common(edge: list[int], tokens: list[int], at: int) -> int:
    """How many tokens of `edge` agree with `tokens` from `at`."""
    low, high = 0, min(len(edge), len(tokens) - at)
    if edge[:high] == tokens[at : at + high]:
        return high
    # They differ somewhere in low..high: comparing slices finds it faster than a loop over tokens.
    while high - low > 1:
        middle = (low + high) // 2
        if edge[low:middle] == tokens[at + low : at + middle]:
            low = middle
        else:
            high = middle
    return low
