"""PrefixTree: who holds which token prefix. A radix tree over tokens; lookup is linear in the prompt's length."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

H = TypeVar("H", bound=Hashable)


class _Node(Generic[H]):
    __slots__ = ("children", "depth", "holders", "parent", "tokens")

    def __init__(self, parent: _Node[H] | None, tokens: list[int], depth: int) -> None:
        self.parent = parent
        self.tokens = tokens
        self.depth = depth  # tokens from the root to the end of this node
        self.children: dict[int, _Node[H]] = {}
        self.holders: dict[H, None] = {}  # a set that keeps its order, so that every run decides alike


class PrefixTree(Generic[H]):
    """Maps token sequences to holders (slots, saved states). A holder has one sequence at a time."""

    def __init__(self) -> None:
        self._root: _Node[H] = _Node(None, [], 0)
        self._leaves: dict[H, _Node[H]] = {}

    def __contains__(self, holder: H) -> bool:
        return holder in self._leaves

    def insert(self, tokens: list[int], holder: H) -> None:
        """Say that `holder` holds `tokens`, replacing what it held. Linear in `tokens`."""
        self.remove(holder)
        if not tokens:
            return
        node, at = self._root, 0
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
        self._leaves[holder] = node

    def remove(self, holder: H) -> None:
        """Forget `holder`; unknown ones are ignored."""
        node = self._leaves.pop(holder, None)
        while node is not None and node.parent is not None:
            parent = node.parent
            del node.holders[holder]
            if not node.holders:
                del parent.children[node.tokens[0]]
            elif len(node.children) == 1:
                self._merge(node)
            node = parent

    def match(self, tokens: list[int]) -> Iterator[tuple[int, list[H]]]:
        """Yield (number of matching leading tokens, holders), deepest first.

        A holder is yielded at its own deepest match, once.
        """
        path: list[tuple[int, _Node[H]]] = []
        node, at = self._root, 0
        while at < len(tokens) and (child := node.children.get(tokens[at])) is not None:
            common = _common(child.tokens, tokens, at)
            at += common
            path.append((at, child))
            if common < len(child.tokens):
                break
            node = child
        below: dict[H, None] = {}
        for depth, node in reversed(path):
            fresh = [holder for holder in node.holders if holder not in below]
            if fresh:
                yield depth, fresh
                below = node.holders

    def others(self, holder: H) -> list[H]:
        """Who else holds everything that `holder` holds."""
        leaf = self._leaves.get(holder)
        return [] if leaf is None else [other for other in leaf.holders if other != holder]

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
        """Join `node` with its only child when the same holders pass through both."""
        (child,) = node.children.values()
        if len(child.holders) != len(node.holders):
            return
        node.tokens = node.tokens + child.tokens
        node.depth = child.depth
        node.children = child.children
        for grandchild in node.children.values():
            grandchild.parent = node
        for holder in child.holders:
            if self._leaves.get(holder) is child:
                self._leaves[holder] = node


def _common(edge: list[int], tokens: list[int], at: int) -> int:
    """How many tokens of `edge` agree with `tokens` from `at`."""
    end = min(len(edge), len(tokens) - at)
    if edge[:end] == tokens[at : at + end]:
        return end
    return next(i for i in range(end) if edge[i] != tokens[at + i])
