"""The drawing of a tree: the open branch straight down, the others beside it, every turn once."""

from __future__ import annotations

import random
import time

from localllm_tui.history.values import Node
from localllm_tui.widgets.tree_rows import MAX_GUIDES, num_branches, rows_of


def tree(*parents: int | None) -> list[Node]:
    """Nodes 1, 2, 3 and so on, below these."""
    return [Node(at, 1, parent, "user", str(at), created=at) for at, parent in enumerate(parents, start=1)]


def drawn(nodes: list[Node], leaf: int | None) -> list[str]:
    """The rows as text, those of the open branch with a star."""
    return [f"{row.guide}{'*' if row.is_open else 'o'}{row.node.id}" for row in rows_of(nodes, leaf)]


def test_a_chain_stays_in_its_column() -> None:
    assert drawn(tree(None, 1, 2), 3) == ["*1", "*2", "*3"]
    assert drawn([], None) == []


def test_other_branches_stand_before_the_open_one_goes_on() -> None:
    nodes = tree(None, 1, 1, 2, 4, 4, 3)
    assert drawn(nodes, 7) == ["*1", "├─o2", "│ o4", "│ ├─o5", "│ o6", "*3", "*7"]
    assert drawn(nodes, 5) == ["*1", "├─o3", "│ o7", "*2", "*4", "├─o6", "*5"]
    assert num_branches(rows_of(nodes, 5)) == 3


def test_several_first_turns_and_strays() -> None:
    assert drawn(tree(None, 1, None, 99), 2) == ["├─o3", "├─o4", "*1", "*2"]


def test_without_an_open_branch_the_newest_goes_straight_on() -> None:
    assert drawn(tree(None, 1, 1, 2), None) == ["o1", "├─o3", "o2", "o4"]


def test_any_tree_is_drawn_whole_and_in_time() -> None:
    source = random.Random(7)
    for size in (1, 50, 5000):
        parents = [None if not at else source.randint(max(1, at - 3), at) for at in range(size)]
        started = time.process_time()
        rows = rows_of(tree(*parents), size)
        assert time.process_time() - started < 2
        assert sorted(row.node.id for row in rows) == list(range(1, size + 1))
        for at, row in enumerate(rows):
            assert row.parent < at
            assert (rows[row.parent].node.id if row.parent >= 0 else None) == row.node.parent
            assert len(row.guide) <= 2 * MAX_GUIDES + 2
            assert not row.is_open or not row.guide
