"""GBNF rules as Lark: which parts become lexemes, and how they are written.

GBNF has no lexer: a text is whatever the rules can spell, character by character. llguidance reads lexemes, each as
long as it goes. So rules that do not recur become one lexeme each, which is exact; recurring rules are made of lexemes
as long as possible, and where one could run on into what should follow (`lexing.overlaps`), it is taken apart into
single characters, which cannot.
"""

from __future__ import annotations

from collections.abc import Iterator

from localllm.engine.grammar.gbnf_nodes import MAX_CODE, Alt, Chars, Node, Ref, Repeat, Rules, Seq, refs
from localllm.engine.grammar.gbnf_rules import ordered
from localllm.engine.grammar.lexing import Lexeme, overlaps

_ROUNDS = 16


def lark_of(rules: Rules) -> str:
    """The grammar in Lark; its start is `root`. Raises InvalidRequestError where lexemes cannot be told apart."""
    plain = frozenset(ordered({name: refs(node) for name, node in rules.items()}))
    apart: frozenset[Node] = frozenset()
    for _ in range(_ROUNDS):
        writer = _Writer(rules, plain, apart)
        writer.write()
        found = overlaps(writer.shapes, writer.lexemes, rules)
        if not found:
            break
        apart |= found
    return writer.text()


class _Writer:
    """Writes rules; `shapes` are the recurring ones over lexemes, `lexemes` what those stand for."""

    def __init__(self, rules: Rules, plain: frozenset[str], apart: frozenset[Node]) -> None:
        self._rules = rules
        self._plain = plain
        self._apart = apart
        self._numbers = {name: number for number, name in enumerate(rules)}
        self.lexemes: dict[str, Lexeme] = {}
        self._by_node: dict[Node, str] = {}
        self.shapes: dict[str, Node] = {}
        self._todo: list[str] = []

    def write(self) -> None:
        """Split the rules that `root` needs into lexemes."""
        self._rule_name("root")
        while self._todo:
            name = self._todo.pop()
            self.shapes[self._lark_rule(name)] = self._shape(self._rules[name])

    def text(self) -> str:
        """The Lark grammar."""
        lines = [f"start: {self._lark_rule('root')}"]
        lines += [f"{name}: {self._expression(shape)}" for name, shape in self.shapes.items()]
        lines += [f"{name}: {self._terminal(lexeme.node)}" for name, lexeme in self.lexemes.items()]
        used = self._terminals_used()
        lines += [f"{self._terminal_name(name)}: {self._terminal(self._rules[name])}" for name in used]
        return "\n".join(lines)

    def _lark_rule(self, name: str) -> str:
        return f"r{self._numbers[name]}"

    def _terminal_name(self, name: str) -> str:
        return f"T{self._numbers[name]}"

    def _rule_name(self, name: str) -> Ref:
        if self._lark_rule(name) not in self.shapes and name not in self._todo:
            self._todo.append(name)
        return Ref(self._lark_rule(name))

    def _is_plain(self, node: Node) -> bool:
        """Whether a node is to be one lexeme."""
        return node not in self._apart and refs(node) <= self._plain

    def _shape(self, node: Node) -> Node:
        """A node over lexemes: references in it are to lexemes and to rules."""
        if self._is_plain(node):
            return self._lexeme(node)
        match node:
            case Chars():
                return self._lexeme(node)
            case Ref(name):
                return self._rule_name(name)
            case Repeat(part, least, most):
                return Repeat(self._shape(part), least, most)
            case Alt(options):
                plain = [option for option in options if self._is_plain(option)]
                others = [option for option in options if not self._is_plain(option)]
                together = Alt(tuple(plain))
                if len(plain) > 1 and self._is_plain(together):
                    return Alt((self._lexeme(together), *map(self._shape, others)))
                return Alt(tuple(map(self._shape, options)))
            case Seq(parts):
                return Seq(tuple(self._runs(parts)))

    def _runs(self, parts: tuple[Node, ...]) -> Iterator[Node]:
        """Parts of a sequence, with those that can be one lexeme joined."""
        run: list[Node] = []
        for part in [*parts, None]:
            if part is not None and self._is_plain(part):
                run.append(part)
                continue
            joined = run[0] if len(run) == 1 else Seq(tuple(run))
            if run and self._is_plain(joined):
                yield self._lexeme(joined)
            else:
                yield from (self._shape(each) for each in run)
            run = []
            if part is not None:
                yield self._shape(part)

    def _lexeme(self, node: Node) -> Node:
        if node == Seq(()):
            return node
        name = self._by_node.get(node)
        if name is None:
            name = self._by_node[node] = f"L{len(self.lexemes)}"
            self.lexemes[name] = Lexeme(node)
        return Ref(name)

    def _terminals_used(self) -> list[str]:
        found: dict[str, None] = {}
        todo = [name for lexeme in self.lexemes.values() for name in refs(lexeme.node)]
        while todo:
            name = todo.pop()
            if name not in found:
                found[name] = None
                todo += refs(self._rules[name])
        return list(found)

    def _expression(self, shape: Node) -> str:
        return _written(shape, lambda name: name)

    def _terminal(self, node: Node) -> str:
        return _written(node, self._terminal_name)


def _written(node: Node, name_of: object) -> str:
    assert callable(name_of)
    match node:
        case Chars(ranges):
            return f"/{_char_class(ranges)}/"
        case Ref(name):
            return str(name_of(name))
        case Seq(parts):
            return " ".join(_grouped(part, name_of) for part in _texts(parts)) or '""'
        case Alt(options):
            return " | ".join(_grouped(option, name_of) for option in options)
        case Repeat(part, least, most):
            bounds = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((least, most))
            return _grouped(part, name_of) + (bounds or f"{{{least},{'' if most is None else most}}}")
        case str():
            return node


def _grouped(node: Node | str, name_of: object) -> str:
    if isinstance(node, str):
        return node
    inner = _written(node, name_of)
    return inner if isinstance(node, Chars | Ref) else f"({inner})"


def _texts(parts: tuple[Node, ...]) -> Iterator[Node | str]:
    """Parts of a sequence, with characters in a row written as one regular expression."""
    run = ""
    for part in parts:
        if isinstance(part, Chars):
            run += _char_class(part.ranges)
            continue
        if run:
            yield f"/{run}/"
            run = ""
        yield part
    if run:
        yield f"/{run}/"


def _char_class(ranges: tuple[tuple[int, int], ...]) -> str:
    """A class of code points; surrogates, which no text has, are left out."""
    parts = []
    for low, high in ranges:
        for start, end in ((low, min(high, 0xD7FF)), (max(low, 0xE000), min(high, MAX_CODE))):
            if start <= end:
                parts.append(rf"\x{{{start:X}}}" + (rf"-\x{{{end:X}}}" if end > start else ""))
    return f"[{''.join(parts)}]"
