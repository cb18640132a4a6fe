"""GBNF, llama.cpp's grammar language: text to rules, with caps. The way into it for the rest of the package.

The syntax is llama.cpp's (grammars/README.md and src/llama-grammar.cpp of the pinned version), without its token
references. Like there, left recursion is refused.
"""

from __future__ import annotations

import re

from localllm.engine.grammar.gbnf_nodes import ANY, Alt, Chars, Node, Ref, Repeat, Rules, Seq, literal, negated
from localllm.engine.grammar.gbnf_rules import check_rules
from localllm.engine.grammar.gbnf_to_lark import lark_of
from localllm.engine.grammar.limits import MAX_BYTES, MAX_PATTERN_DEPTH, MAX_REPEATS, MAX_RULES, refuse, within

_NAME = re.compile(r"[A-Za-z0-9-]+")
_BOUNDS = re.compile(r"\{[ \t]*(\d{1,9})[ \t]*(?:(,)[ \t]*(\d{1,9})?[ \t]*)?\}")
_BLANK = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_HEX = {"x": 2, "u": 4, "U": 8}
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n"} | {char: char for char in '\\"[]-'}


def to_lark(grammar: str) -> str:
    """A GBNF grammar in llguidance's Lark. Raises InvalidRequestError."""
    within(len(grammar.encode("utf-8", "replace")), MAX_BYTES, "a grammar of too many bytes")
    rules = parse(grammar)
    check_rules(rules)
    return lark_of(rules)


def parse(grammar: str) -> Rules:
    """The rules of a grammar, by name. Raises InvalidRequestError."""
    return _Parser(grammar).rules()


class _Parser:
    """Reads a grammar from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def rules(self) -> Rules:
        """All rules."""
        found: Rules = {}
        self._skip(nested=True)
        while self._at < len(self._text):
            name = self._name()
            self._skip(nested=False)
            self._expect("::=")
            self._skip(nested=True)
            found[name] = self._alternatives(0)
            within(len(found), MAX_RULES, "a grammar of too many rules")
            if self._at < len(self._text) and self._peek() not in "\r\n":
                self._fail("the end of the line")
            self._skip(nested=True)
        return found

    def _fail(self, wanted: str) -> None:
        line = self._text.count("\n", 0, self._at) + 1
        refuse(f"a grammar without {wanted} in line {line}", hint=f"there stands {self._text[self._at :][:20]!r}")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _expect(self, what: str) -> None:
        if not self._text.startswith(what, self._at):
            self._fail(what)
        self._at += len(what)

    def _skip(self, *, nested: bool) -> None:
        """Pass over blanks and comments; over line ends too where an expression goes on after them."""
        found = (_SPACE if nested else _BLANK).match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _name(self) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            self._fail("a rule's name")
            raise AssertionError
        self._at = found.end()
        return found[0]

    def _alternatives(self, depth: int) -> Node:
        if depth > MAX_PATTERN_DEPTH:
            refuse("a grammar with too many groups inside each other", hint=f"at most {MAX_PATTERN_DEPTH}")
        options = [self._sequence(depth)]
        while self._peek() == "|":
            self._at += 1
            self._skip(nested=True)
            options.append(self._sequence(depth))
        return options[0] if len(options) == 1 else Alt(tuple(options))

    def _sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while char := self._peek():
            if char in "*+?{":
                if not parts:
                    self._fail("something to repeat")
                parts[-1] = self._repeated(parts[-1])
            elif (part := self._part(char, depth)) is not None:
                parts.append(part)
            else:
                break
            self._skip(nested=depth > 0)
        return parts[0] if len(parts) == 1 else Seq(tuple(parts))

    def _part(self, char: str, depth: int) -> Node | None:
        """One thing that may be repeated; None where a sequence ends."""
        if char == '"':
            return literal(self._quoted())
        if char == "[":
            return self._char_class()
        if char == "(":
            self._at += 1
            self._skip(nested=True)
            inner = self._alternatives(depth + 1)
            self._expect(")")
            return inner
        if char == ".":
            self._at += 1
            return ANY
        if char in "<!":
            refuse(f"a token ({char}…) in a grammar", hint="write its text")
        return Ref(self._name()) if _NAME.match(char) else None

    def _quoted(self) -> str:
        self._at += 1
        chars: list[str] = []
        while self._peek() != '"':
            chars.append(self._char())
        self._at += 1
        return "".join(chars)

    def _char(self) -> str:
        char = self._peek()
        if not char:
            self._fail("the end of a text or class")
        self._at += 1
        if char != "\\":
            return char
        kind = self._peek()
        self._at += 1
        if kind in _ESCAPES:
            return _ESCAPES[kind]
        digits = self._text[self._at : self._at + _HEX.get(kind, 0)]
        if not digits or not re.fullmatch(r"[0-9A-Fa-f]+", digits) or len(digits) != _HEX[kind]:
            refuse(f"the escape \\{kind}{digits} in a grammar")
        code = int(digits, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            refuse(f"the escape \\{kind}{digits} in a grammar", hint="it is no character")
        self._at += len(digits)
        return chr(code)

    def _char_class(self) -> Node:
        self._at += 1
        is_negated = self._peek() == "^"
        self._at += is_negated
        ranges: list[tuple[int, int]] = []
        while self._peek() != "]":
            low = high = ord(self._char())
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                high = ord(self._char())
            if high < low:
                refuse(f"the range {chr(low)!r} to {chr(high)!r} in a grammar", hint="the lower end comes first")
            ranges.append((low, high))
        self._at += 1
        if not ranges and not is_negated:
            refuse("an empty [] in a grammar", hint="nothing matches it")
        return negated(ranges) if is_negated else Chars(tuple(sorted(ranges)))

    def _repeated(self, part: Node) -> Node:
        char = self._peek()
        if char in "*+?":
            self._at += 1
            return Repeat(part, int(char == "+"), 1 if char == "?" else None)
        found = _BOUNDS.match(self._text, self._at)
        if found is None:
            self._fail("bounds {m}, {m,} or {m,n}")
            raise AssertionError
        self._at = found.end()
        least = int(found[1])
        most = None if found[2] and not found[3] else int(found[3] or found[1])
        within(max(least, most or 0), MAX_REPEATS, "a grammar with too high a bound")
        if most is not None and most < least:
            refuse(f"the bounds {found[0]} in a grammar")
        return Repeat(part, least, most)
