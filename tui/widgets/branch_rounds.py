"""Two branches of a conversation, laid beside each other: what they share, then round by round. Pure."""

from __future__ import annotations

from itertools import zip_longest
from typing import NamedTuple

from localllm_tui.history.values import Node
from localllm_tui.widgets.word_diff import TextDiff, text_diff

_RESULT_CHARS = 2_000


class Side(NamedTuple):
    """What stands in one place of one branch: a turn of a person, or an answer with the calls it made."""

    nodes: tuple[Node, ...]

    @property
    def text(self) -> str:
        """All of it, as it is compared."""
        return "\n\n".join(part for node in self.nodes if (part := _text(node)))


class Round(NamedTuple):
    """The same place of both branches. None: that branch has ended before."""

    left: Side | None
    right: Side | None
    diff: TextDiff


class Comparison(NamedTuple):
    """`common`: the turns that both branches share."""

    common: tuple[Node, ...]
    rounds: tuple[Round, ...]


def compare(left: tuple[Node, ...], right: tuple[Node, ...]) -> Comparison:
    """Two paths, each from its first turn; a turn of a person stands beside one, an answer beside an answer."""
    num_common = 0
    while num_common < min(len(left), len(right)) and left[num_common].id == right[num_common].id:
        num_common += 1
    rounds = []
    for ours, theirs in _beside(_sides(left[num_common:]), _sides(right[num_common:])):
        diff = text_diff(ours.text, theirs.text) if ours and theirs else _alone(ours, theirs)
        rounds.append(Round(ours, theirs, diff))
    return Comparison(left[:num_common], tuple(rounds))


def _alone(left: Side | None, right: Side | None) -> TextDiff:
    return TextDiff(
        ((left.text, False),) if left else (),
        ((right.text, False),) if right else (),
        "words",
    )


def _sides(nodes: tuple[Node, ...]) -> list[Side]:
    sides: list[Side] = []
    for node in nodes:
        is_answer = node.role in ("assistant", "tool")
        if is_answer and sides and sides[-1].nodes[-1].role in ("assistant", "tool"):
            sides[-1] = Side((*sides[-1].nodes, node))
        else:
            sides.append(Side((node,)))
    return sides


def _beside(left: list[Side], right: list[Side]) -> list[tuple[Side | None, Side | None]]:
    pairs: list[tuple[Side | None, Side | None]] = []
    for ours, theirs in zip_longest(left, right):
        if ours and theirs and _is_answer(ours) != _is_answer(theirs):
            # One branch answers where the other asks anew: from here on nothing stands beside anything.
            at = len(pairs)
            return [*pairs, *((side, None) for side in left[at:]), *((None, side) for side in right[at:])]
        pairs.append((ours, theirs))
    return pairs


def _is_answer(side: Side) -> bool:
    return side.nodes[0].role in ("assistant", "tool")


def _text(node: Node) -> str:
    if node.role == "tool":
        text = node.content
        more = f" … ({len(text) - _RESULT_CHARS:,} more characters)" if len(text) > _RESULT_CHARS else ""
        return f"→ {text[:_RESULT_CHARS]}{more}"
    calls = [f"calls {call.name} {call.arguments}" for call in node.tool_calls]
    attached = [f"[{attachment.name}]" for attachment in node.attachments]
    failed = [f"failed: {node.error}"] if node.state == "failed" and node.error else []
    return "\n".join([*attached, *filter(None, [node.content]), *calls, *failed])
