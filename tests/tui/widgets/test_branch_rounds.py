"""Two branches beside each other: where they fork, and what stands beside what."""

from __future__ import annotations

from localllm_tui.history.values import Node
from localllm_tui.widgets.branch_rounds import Round, compare

from localllm.api import Role, ToolCall


def turn(id_: int, role: Role, content: str = "", **fields: object) -> Node:
    """A turn."""
    return Node(id_, 1, None, role, content, **fields)  # type: ignore[arg-type]


def ids(one: Round) -> tuple[list[int], list[int]]:
    """Which nodes stand where."""
    return (
        [node.id for node in one.left.nodes] if one.left else [],
        [node.id for node in one.right.nodes] if one.right else [],
    )


def test_answers_beside_answers_with_their_calls() -> None:
    ask = turn(1, "user", "q")
    left = (
        ask,
        turn(2, "assistant", tool_calls=(ToolCall("c", "f__read", "{}"),)),
        turn(3, "tool", "the file " + "x" * 3000),
        turn(4, "assistant", "It says hello."),
        turn(5, "user", "thanks"),
    )
    right = (ask, turn(6, "assistant", "It says nothing."))
    comparison = compare(left, right)
    assert [node.id for node in comparison.common] == [1]
    assert [ids(one) for one in comparison.rounds] == [([2, 3, 4], [6]), ([5], [])]
    text = comparison.rounds[0].left.text if comparison.rounds[0].left else ""
    assert text.startswith("calls f__read {}\n\n→ the file xxx")
    assert "(1,009 more characters)" in text
    assert text.endswith("It says hello.")


def test_one_branch_asks_where_the_other_answers() -> None:
    ask = turn(1, "user", "q")
    comparison = compare((ask, turn(2, "assistant", "a")), (ask, turn(3, "user", "q2"), turn(4, "assistant", "b")))
    assert [ids(one) for one in comparison.rounds] == [([2], []), ([], [3]), ([], [4])]


def test_nothing_in_common_and_everything() -> None:
    one, other = turn(1, "user", "a"), turn(2, "user", "b")
    assert compare((one,), (other,)).common == ()
    same = compare((one,), (one,))
    assert (same.common, same.rounds) == ((one,), ())
