"""A conversation's tree as rows of a drawing. Pure; knows no terminal.

A chain of turns stays in its column; where it forks, the other branches stand indented before it goes on. So the open
branch runs straight down on the left, however often it forked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from localllm_tui.history.values import Node

MAX_GUIDES = 16

_ON, _FORK = "│ ", "├─"


class Row(NamedTuple):
    """One turn. `guide` stands before it; `parent` is the row of the turn above, -1 for a first turn."""

    node: Node
    guide: str
    is_open: bool
    num_children: int
    parent: int


def rows_of(nodes: Iterable[Node], leaf: int | None) -> tuple[Row, ...]:
    """Rows from the top. `nodes`: whoever is above another before it; `leaf`: the end of the open branch."""
    nodes = tuple(nodes)
    known = {node.id: node for node in nodes}
    below: dict[int | None, list[Node]] = defaultdict(list)
    for node in nodes:
        below[node.parent if node.parent in known else None].append(node)
    is_open = _way_to(leaf, known)
    newest = _newest(nodes, known)

    def straight_on(children: list[Node]) -> Node:
        return max(children, key=lambda child: (child.id in is_open, newest[child.id]))

    rows: list[Row] = []
    todo: list[tuple[Node, str, str, int]] = []

    def push(children: list[Node], guide: str, parent: int) -> None:
        if not children:
            return
        on = straight_on(children)
        todo.append((on, guide, guide, parent))
        inner = guide + _ON if len(guide) < MAX_GUIDES * len(_ON) else guide
        todo.extend((child, guide + _FORK, inner, parent) for child in reversed(children) if child is not on)

    push(below[None], "", -1)
    while todo:
        node, head, guide, parent = todo.pop()
        children = below.get(node.id, [])
        push(children, guide, len(rows))
        rows.append(Row(node, head, node.id in is_open, len(children), parent))
    return tuple(rows)


def num_branches(rows: Iterable[Row]) -> int:
    """How many turns have nothing below them."""
    return sum(row.num_children == 0 for row in rows)


def _way_to(leaf: int | None, known: dict[int, Node]) -> set[int]:
    way: set[int] = set()
    while leaf is not None and leaf in known:
        way.add(leaf)
        leaf = known[leaf].parent
    return way


def _newest(nodes: tuple[Node, ...], known: dict[int, Node]) -> dict[int, tuple[float, int]]:
    """When each turn, or one below it, was last made."""
    newest = {node.id: (node.created, node.id) for node in nodes}
    for node in reversed(nodes):
        if node.parent in known:
            newest[node.parent] = max(newest[node.parent], newest[node.id])
    return newest
