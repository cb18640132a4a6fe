"""Where lexemes that are read as long as they go would misread a grammar without a lexer.

For each point where some lexemes may come, and each two of them: is there a text that the first one is done with, while
the second (or the first itself) could go on with a character that may follow the first? Then the longest reading is not
the only one. Judged on the automata of the lexemes, bounds of repetition widened to "any number", contexts joined: it
may see an overlap where there is none, never the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from localllm.engine.grammar.gbnf_nodes import Alt, Chars, Node, Ranges, Ref, Repeat, Rules, Seq
from localllm.engine.grammar.gbnf_rules import nullable
from localllm.engine.grammar.limits import refuse

_MAX_POSITIONS = 4_000
_MAX_PAIRS = 100_000
_END = "end"

Positions: TypeAlias = frozenset[int]


@dataclass(frozen=True, slots=True)
class Lexeme:
    """A part of a grammar that is read in one go."""

    node: Node


@dataclass(slots=True)
class _Automaton:
    """Positions of characters in a lexeme: 0 is its beginning, `steps` lead from one to the next."""

    chars: list[Ranges] = field(default_factory=lambda: [()])
    steps: list[set[int]] = field(default_factory=lambda: [set()])
    accepting: set[int] = field(default_factory=set)


def overlaps(shapes: dict[str, Node], lexemes: dict[str, Lexeme], rules: Rules) -> frozenset[Node]:
    """The lexemes to be taken apart: those of more than a character that another reading runs into."""
    if len(shapes) == 1 and all(isinstance(shape, Ref) for shape in shapes.values()):
        return frozenset()  # one lexeme, and nothing follows it
    automata = {name: _automaton(lexeme.node, rules) for name, lexeme in lexemes.items()}
    follow, first = _follow(shapes, {name for name, each in automata.items() if 0 in each.accepting})
    starts = {name: _joined([each.chars[step] for step in each.steps[0]]) for name, each in automata.items()}
    found: set[Node] = set()
    budget = [_MAX_PAIRS]
    for group in {frozenset(first), *map(frozenset, follow.values())}:
        names = sorted(group - {_END})
        for done in names:
            after = _joined([starts[name] for name in follow[done] if name != _END])
            for other in names:
                if _overlap(automata[done], automata[other], after, budget):
                    found |= {lexemes[done].node, lexemes[other].node}
    return frozenset(node for node in found if not isinstance(node, Chars))


def _overlap(done: _Automaton, other: _Automaton, after: Ranges, budget: list[int]) -> bool:
    """Whether a text that `done` accepts is one that `other` can continue with a character of `after`."""
    if not after:
        return False
    seen = {(0, 0)}
    todo = [(0, 0)]
    while todo:
        one, two = todo.pop()
        if one in done.accepting and any(_meet(other.chars[step], after) for step in other.steps[two]):
            return True
        for step in done.steps[one]:
            for match in other.steps[two]:
                budget[0] -= 1
                if budget[0] < 0:
                    refuse(
                        "a grammar too large to be followed", hint="fewer and smaller rules that lead back to others"
                    )
                if (step, match) not in seen and _meet(done.chars[step], other.chars[match]):
                    seen.add((step, match))
                    todo.append((step, match))
    return False


def _meet(one: Ranges, other: Ranges) -> bool:
    """Whether two sorted sets of ranges have a character in common."""
    left = right = 0
    while left < len(one) and right < len(other):
        if one[left][1] < other[right][0]:
            left += 1
        elif other[right][1] < one[left][0]:
            right += 1
        else:
            return True
    return False


def _joined(sets: list[Ranges]) -> Ranges:
    return tuple(sorted({pair for ranges in sets for pair in ranges}))


# --- which lexemes come after which -------------------------------------------------------------------------------


def _follow(shapes: dict[str, Node], empty_lexemes: set[str]) -> tuple[dict[str, set[str]], set[str]]:
    """The lexemes that may come after each lexeme, and those that may begin a text. The end counts as one."""
    empty = set(empty_lexemes)
    while more := {name for name, shape in shapes.items() if name not in empty and nullable(shape, empty)}:
        empty |= more
    first: dict[str, set[str]] = {name: set() for name in shapes}
    grew = True
    while grew:
        grew = False
        for name, shape in shapes.items():
            grew |= _grow(first[name], _first(shape, first, empty))
    follow: dict[str, set[str]] = {name: set() for name in shapes}
    root = next(iter(shapes))
    follow[root].add(_END)
    grew = True
    while grew:
        grew = False
        for name, shape in shapes.items():
            for target, after in _places(shape, follow[name], first, empty):
                grew |= _grow(follow.setdefault(target, set()), after)
    return follow, _first(Seq((shapes[root],)), first, empty) | {_END}


def _grow(known: set[str], more: set[str]) -> bool:
    size = len(known)
    known |= more
    return len(known) > size


def _first(node: Node, first: dict[str, set[str]], empty: set[str]) -> set[str]:
    match node:
        case Ref(name):
            return first.get(name, {name})
        case Seq(parts):
            found: set[str] = set()
            for part in parts:
                found |= _first(part, first, empty)
                if not nullable(part, empty):
                    break
            return found
        case Alt(options):
            return set().union(*(_first(option, first, empty) for option in options))
        case Repeat(part):
            return _first(part, first, empty)
        case _:
            return set()


def _places(node: Node, after: set[str], first: dict[str, set[str]], empty: set[str]) -> list[tuple[str, set[str]]]:
    """Each name in a node with what may come after it there, if `after` comes after the node."""
    match node:
        case Ref(name):
            return [(name, after)]
        case Seq(parts):
            found: list[tuple[str, set[str]]] = []
            for part in reversed(parts):
                found += _places(part, after, first, empty)
                begins = _first(part, first, empty)
                after = begins | after if nullable(part, empty) else begins
            return found
        case Alt(options):
            return [place for option in options for place in _places(option, after, first, empty)]
        case Repeat(part, _, most):
            again = after if most == 1 else after | _first(part, first, empty)
            return _places(part, again, first, empty)
        case _:
            return []


# --- automata of lexemes ------------------------------------------------------------------------------------------


def _automaton(node: Node, rules: Rules) -> _Automaton:
    automaton = _Automaton()
    is_empty, begins, ends = _build(node, rules, automaton)
    automaton.steps[0] |= begins
    automaton.accepting = set(ends) | ({0} if is_empty else set())
    return automaton


def _build(node: Node, rules: Rules, automaton: _Automaton) -> tuple[bool, Positions, Positions]:
    """Add a node: whether it may be empty, and at which positions it begins and ends."""
    match node:
        case Chars(ranges):
            if len(automaton.chars) > _MAX_POSITIONS:
                refuse("a grammar too large to be followed", hint="fewer characters in rules that lead back to others")
            automaton.chars.append(ranges)
            automaton.steps.append(set())
            here = frozenset({len(automaton.chars) - 1})
            return False, here, here
        case Ref(name):
            return _build(rules[name], rules, automaton)
        case Seq(parts):
            return _build_sequence(parts, rules, automaton)
        case Alt(options):
            built = [_build(option, rules, automaton) for option in options]
            return (
                any(empty for empty, _, _ in built),
                frozenset().union(*(begins for _, begins, _ in built)),
                frozenset().union(*(ends for _, _, ends in built)),
            )
        case Repeat(part, least, most):
            is_empty, begins, ends = _build(part, rules, automaton)
            if most != 1:
                _link(automaton, ends, begins)
            return is_empty or least == 0, begins, ends


def _build_sequence(parts: tuple[Node, ...], rules: Rules, automaton: _Automaton) -> tuple[bool, Positions, Positions]:
    is_empty, begins, ends = True, Positions(), Positions()
    for part in parts:
        part_empty, part_begins, part_ends = _build(part, rules, automaton)
        _link(automaton, ends, part_begins)
        begins = begins | part_begins if is_empty else begins
        ends = ends | part_ends if part_empty else part_ends
        is_empty = is_empty and part_empty
    return is_empty, begins, ends


def _link(automaton: _Automaton, ends: Positions, begins: Positions) -> None:
    for end in ends:
        automaton.steps[end] |= begins
