"""What GBNF rules are made of. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Ranges: TypeAlias = tuple[tuple[int, int], ...]

MAX_CODE = 0x10FFFF


@dataclass(frozen=True, slots=True)
class Chars:
    """One character out of ranges of code points, sorted."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Ref:
    """Another rule."""

    name: str


@dataclass(frozen=True, slots=True)
class Seq:
    """All parts in order; of none: the empty text."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Alt:
    """One of the options."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`part` at least and at most so often (None: without end)."""

    part: Node
    least: int
    most: int | None


Node: TypeAlias = Chars | Ref | Seq | Alt | Repeat
Rules: TypeAlias = dict[str, Node]

ANY = Chars(((0, MAX_CODE),))


def literal(text: str) -> Node:
    """A text as the sequence of its characters."""
    return Seq(tuple(Chars(((ord(char), ord(char)),)) for char in text))


def negated(ranges: list[tuple[int, int]]) -> Chars:
    """One character that is in none of the ranges."""
    found: list[tuple[int, int]] = []
    low = 0
    for start, end in sorted(ranges):
        if start > low:
            found.append((low, start - 1))
        low = max(low, end + 1)
    if low <= MAX_CODE:
        found.append((low, MAX_CODE))
    return Chars(tuple(found))


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right inside."""
    match node:
        case Seq(parts):
            return parts
        case Alt(options):
            return options
        case Repeat(part):
            return (part,)
        case _:
            return ()


def refs(node: Node) -> set[str]:
    """The rules that a node names."""
    found: set[str] = set()
    todo = [node]
    while todo:
        item = todo.pop()
        if isinstance(item, Ref):
            found.add(item.name)
        todo += children(item)
    return found
