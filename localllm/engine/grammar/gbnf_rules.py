"""Checks on whole GBNF grammars: names, left recursion, rules without an end, sizes that multiply. No recursion over
rules: a chain of them may be long.
"""

from __future__ import annotations

from collections.abc import Callable

from localllm.engine.grammar.gbnf_nodes import Alt, Chars, Node, Ref, Repeat, Rules, Seq, refs
from localllm.engine.grammar.limits import MAX_NESTED_REPEATS, refuse


def check_rules(rules: Rules) -> None:
    """Raise InvalidRequestError for a grammar that cannot be followed."""
    if "root" not in rules:
        refuse("a grammar without a rule named root")
    for name, node in rules.items():
        for missing in sorted(refs(node) - rules.keys()):
            refuse(f"a grammar without a rule named {missing}", hint=f"{name} uses it")
    _check_ends(rules)
    _check_left_recursion(rules)
    check_sizes(rules)


def _fixpoint(rules: Rules, holds: Callable[[Node, set[str]], bool]) -> set[str]:
    """The rules for which something holds that follows from the same for the rules they name."""
    found: set[str] = set()
    users: dict[str, set[str]] = {name: set() for name in rules}
    for name, node in rules.items():
        for used in refs(node):
            users[used].add(name)
    todo = list(rules)
    while todo:
        name = todo.pop()
        if name not in found and holds(rules[name], found):
            found.add(name)
            todo += users[name] - found
    return found


def nullable_rules(rules: Rules) -> set[str]:
    """The rules that the empty text satisfies."""
    return _fixpoint(rules, nullable)


def nullable(node: Node, known: set[str]) -> bool:
    """Whether the empty text satisfies a node, given the rules that it does."""
    match node:
        case Ref(name):
            return name in known
        case Seq(parts):
            return all(nullable(part, known) for part in parts)
        case Alt(options):
            return any(nullable(option, known) for option in options)
        case Repeat(part, least, _):
            return least == 0 or nullable(part, known)
        case _:
            return False


def _ends(node: Node, known: set[str]) -> bool:
    match node:
        case Ref(name):
            return name in known
        case Seq(parts):
            return all(_ends(part, known) for part in parts)
        case Alt(options):
            return any(_ends(option, known) for option in options)
        case Repeat(part, least, _):
            return least == 0 or _ends(part, known)
        case _:
            return True


def _check_ends(rules: Rules) -> None:
    for name in sorted(rules.keys() - _fixpoint(rules, _ends)):
        refuse(f"the rule {name} never ends", hint="it leads back to itself in every way")


def _check_left_recursion(rules: Rules) -> None:
    empty = nullable_rules(rules)
    first = {name: _leftmost(node, empty) for name, node in rules.items()}
    loop = find_loop(first)
    if loop is not None:
        refuse(f"the rule {loop} begins with itself", hint="left recursion: write it as a repetition, (…)*")


def _leftmost(node: Node, empty: set[str]) -> set[str]:
    """The rules that a node may begin with."""
    match node:
        case Ref(name):
            return {name}
        case Seq(parts):
            found: set[str] = set()
            for part in parts:
                found |= _leftmost(part, empty)
                if not nullable(part, empty):
                    break
            return found
        case Alt(options):
            return set().union(*(_leftmost(option, empty) for option in options))
        case Repeat(part):
            return _leftmost(part, empty)
        case _:
            return set()


def find_loop(edges: dict[str, set[str]]) -> str | None:
    """A rule on a loop of edges, if there is one."""
    order = ordered(edges)
    name = next((name for name in edges if name not in order), None)
    seen: set[str] = set()
    while name is not None and name not in seen:
        # Whatever is not in order leads to something that is not.
        seen.add(name)
        name = next(target for target in edges[name] if target not in order)
    return name


def ordered(edges: dict[str, set[str]]) -> dict[str, int]:
    """Rules whose edges lead to no loop, each with its place behind all it leads to."""
    left = {name: len(targets) for name, targets in edges.items()}
    users: dict[str, list[str]] = {name: [] for name in edges}
    for name, targets in edges.items():
        for target in targets:
            users[target].append(name)
    ready = [name for name, count in left.items() if count == 0]
    found: dict[str, int] = {}
    while ready:
        name = ready.pop()
        found[name] = len(found)
        for user in users[name]:
            left[user] -= 1
            if left[user] == 0:
                ready.append(user)
    return found


def check_sizes(rules: Rules) -> None:
    """Refuse rules that spell out to too much once bounds and rules in rules are multiplied."""
    order = ordered({name: refs(node) for name, node in rules.items()})
    sizes: dict[str, int] = {}
    for name in order:
        sizes[name] = _size(rules[name], sizes)
        if sizes[name] > MAX_NESTED_REPEATS:
            refuse(f"the rule {name} spells out to {sizes[name]} characters", hint=f"at most {MAX_NESTED_REPEATS}")


def _size(node: Node, sizes: dict[str, int]) -> int:
    match node:
        case Chars():
            return 1
        case Ref(name):
            return sizes.get(name, 1)
        case Seq(parts):
            return sum(_size(part, sizes) for part in parts)
        case Alt(options):
            return sum(_size(option, sizes) for option in options)
        case Repeat(part, least, most):
            return max(1, most or least) * _size(part, sizes)
