"""Turns as another program has them, made into a Bundle: in order, without empty ones, never in a circle. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from localllm_tui.exchange.errors import ExchangeError
from localllm_tui.history.values import Bundle, Conversation, Node


class Turn(NamedTuple):
    """A turn by its foreign key. `node` None: it only holds others together; `thought` goes to the answer below it.

    Ids and parents in `node` mean nothing yet.
    """

    key: str
    parent: str | None
    node: Node | None
    thought: str = ""


def bundle(uid: str, conversation: Conversation, turns: Iterable[Turn], leaf: str | None) -> Bundle:
    """The turns as a tree. Raises ExchangeError where they stand in a circle, and where there are none."""
    by_key = {turn.key: turn for turn in turns}
    below: dict[str | None, list[Turn]] = {}
    for turn in by_key.values():
        below.setdefault(turn.parent if turn.parent in by_key else None, []).append(turn)
    kept: list[Node] = []
    number_of: dict[str, int | None] = {}
    # Each with the kept turn above it, and what was thought since. Children are reversed, as the last goes first.
    todo: list[tuple[Turn, int | None, str]] = [(turn, None, "") for turn in reversed(below.get(None, []))]
    while todo:
        turn, above, thought = todo.pop()
        thought = "\n\n".join(part for part in (thought, turn.thought) if part)
        number = above
        if turn.node is not None:
            number = len(kept) + 1
            node = turn.node
            if thought and node.role == "assistant":
                node = msgspec.structs.replace(node, reasoning="\n\n".join(filter(None, (thought, node.reasoning))))
                thought = ""
            kept.append(msgspec.structs.replace(node, id=number, conversation=0, parent=above))
        number_of[turn.key] = number
        todo += [(child, number, thought) for child in reversed(below.get(turn.key, []))]
    if len(number_of) != len(by_key):
        raise ExchangeError("its turns stand in a circle")
    if not kept:
        raise ExchangeError("it has no turns")
    last = number_of.get(leaf) if leaf else None
    value = msgspec.structs.replace(conversation, leaf=last or kept[-1].id, num_nodes=len(kept))
    return Bundle(uid, value, tuple(kept))


def row(nodes: Iterable[Node]) -> list[Turn]:
    """Turns one after the other."""
    return [Turn(str(i), str(i - 1) if i else None, node) for i, node in enumerate(nodes)]


def seconds(value: Any) -> float:
    """A foreign time as Unix seconds: milliseconds and nanoseconds are told by their size; 0.0 for what is no time."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return 0.0
    try:
        number = float(value)
    except OverflowError:
        return 0.0
    while math.isfinite(number) and number > 1e11:
        number /= 1000
    return number if math.isfinite(number) and number > 0 else 0.0


def text(value: Any) -> str:
    """A foreign text; "" for what is none."""
    return value if isinstance(value, str) else ""
