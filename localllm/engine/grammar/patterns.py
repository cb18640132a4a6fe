"""JSON Schema's patterns (ECMA-262 regular expressions) rewritten in the syntax of Rust's.

Owns the reading of a pattern and the refusal, by name, of what no automaton does: look-around, word borders, references
back. Where ECMA-262 and other common readings of an escape differ (`\\w` and letters beyond ASCII), a generated string
satisfies both. Python's recursion is bounded by the cap on nesting.
"""

from __future__ import annotations

import re
from typing import NoReturn

from localllm.engine.grammar.limits import (
    MAX_NESTED_REPEATS,
    MAX_PATTERN_CHARS,
    MAX_PATTERN_DEPTH,
    MAX_REPEATS,
    refuse,
)

_SPACE = r"\t\n\x{B}\x{C}\r\x{20}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}"
_WORD = "0-9A-Za-z_"
# For each class, the characters every reading has in it, and those that any reading has.
_NARROW = {
    "d": "0-9",
    "D": r"[^\p{Nd}]",
    "w": _WORD,
    "W": r"[^\p{Alphabetic}\p{M}\p{N}\p{Pc}]",
    "s": _SPACE,
    "S": rf"[^{_SPACE}\x{{1C}}-\x{{1F}}\x{{85}}\x{{FEFF}}]",
}
_WIDE = {
    "d": r"\p{Nd}",
    "D": "[^0-9]",
    "w": r"\p{Alphabetic}\p{M}\p{N}\p{Pc}",
    "W": f"[^{_WORD}]",
    "s": rf"{_SPACE}\x{{1C}}-\x{{1F}}\x{{85}}\x{{FEFF}}",
    "S": f"[^{_SPACE}]",
}
_CONTROLS = {"t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
_ANY = r"[^\n\r\x{2028}\x{2029}]"
_PROPERTY = re.compile(r"[pP]\{[A-Za-z_]+(?:=[A-Za-z_]+)?\}")
_COUNT = re.compile(r"\{(\d{1,9})(?:(,)(\d{1,9})?)?\}")
_NAME = re.compile(r"\?<[A-Za-z_]\w*>")
_LOW_SURROGATE = re.compile(r"\\u(D[C-F][0-9A-F]{2})", re.IGNORECASE)
_HEX = re.compile(r"x([0-9A-Fa-f]{2})|u\{([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4})")


def to_rust(pattern: str, path: str) -> str:
    """A pattern in Rust's syntax, searched for in a string as JSON Schema does. Raises InvalidRequestError."""
    if len(pattern) > MAX_PATTERN_CHARS:
        refuse(f"a pattern of {len(pattern)} characters", hint=f"at most {MAX_PATTERN_CHARS}", path=path)
    reader = _Reader(pattern, path)
    found, _ = reader.alternatives(0)
    if reader.at < len(pattern):
        reader.fail("an unmatched )")
    return found


class _Reader:
    """Reads a pattern from left to right and returns each part rewritten."""

    def __init__(self, pattern: str, path: str) -> None:
        self._pattern = pattern
        self._path = path
        self.at = 0

    def fail(self, what: str, hint: str | None = None) -> NoReturn:
        """Refuse the pattern."""
        refuse(f"the pattern {_short(self._pattern)} has {what}", hint=hint, path=self._path)

    def alternatives(self, depth: int) -> tuple[str, int]:
        """What stands up to the end or a closing parenthesis, and how often bounds in it repeat a part at most."""
        if depth > MAX_PATTERN_DEPTH:
            self.fail("too many groups inside each other", f"at most {MAX_PATTERN_DEPTH}")
        parts: list[str] = []
        repeats = 1
        while (char := self._peek()) and char != ")":
            if char == "|":
                self.at += 1
                parts.append(char)
                continue
            part, inner = self._term(depth)
            parts.append(part)
            repeats = max(repeats, inner)
        return "".join(parts), repeats

    def _peek(self, count: int = 1) -> str:
        return self._pattern[self.at : self.at + count]

    def _term(self, depth: int) -> tuple[str, int]:
        if self._peek() in ("^", "$"):
            self.at += 1
            if self._peek() in ("*", "+", "?") or _COUNT.match(self._pattern, self.at):
                self.fail("a repeated anchor")
            return self._pattern[self.at - 1], 1
        atom, repeats = self._atom(depth)
        quantifier, most = self._quantifier()
        repeats *= max(most, 1)
        if repeats > MAX_NESTED_REPEATS:
            self.fail(f"bounds that multiply to {repeats}", f"at most {MAX_NESTED_REPEATS}")
        return f"(?:{atom}){quantifier}" if quantifier else atom, repeats

    def _quantifier(self) -> tuple[str, int]:
        """A quantifier's text, or none, and its upper bound (1 where it has none)."""
        if self._peek() in ("*", "+", "?"):
            self.at += 1
            found, most = self._pattern[self.at - 1], 1
        elif (count := _COUNT.match(self._pattern, self.at)) is not None:
            self.at = count.end()
            least, most = int(count[1]), int(count[3] or count[1])
            if most < least or most > MAX_REPEATS:
                self.fail(f"the bounds {count[0]}", f"a lower and a higher number, at most {MAX_REPEATS}")
            found = count[0]
        else:
            return "", 1
        if self._peek() == "?":
            self.at += 1  # lazy: the same strings match
        return found, most

    def _atom(self, depth: int) -> tuple[str, int]:
        char = self._peek()
        self.at += 1
        if char == "(":
            return self._group(depth)
        if char == "[":
            return self._char_class(), 1
        if char == ".":
            return _ANY, 1
        if char == "\\":
            return self._escape(), 1
        if char in ("*", "+", "?"):
            self.fail(f"a {char} that repeats nothing")
        if char == "{" and _COUNT.match(self._pattern, self.at - 1):
            self.fail("bounds that repeat nothing")
        return _literal(char), 1

    def _group(self, depth: int) -> tuple[str, int]:
        if self._peek() == "?":
            named = _NAME.match(self._pattern, self.at)
            if self._peek(2) in ("?=", "?!") or self._peek(3) in ("?<=", "?<!"):
                self.fail("look-around", "say it with what may be there instead of what may not")
            if named is not None:
                self.at = named.end()
            elif self._peek(2) == "?:":
                self.at += 2
            else:
                self.fail(f"the group ({self._peek(2)}")
        inner, repeats = self.alternatives(depth + 1)
        if self._peek() != ")":
            self.fail("a group without its end")
        self.at += 1
        return f"(?:{inner})", repeats

    def _escape(self) -> str:
        char = self._peek()
        if char in _NARROW:
            self.at += 1
            found = _NARROW[char]
            return found if found.startswith("[") else f"[{found}]"
        if char in ("b", "B"):
            self.fail(f"a word border (\\{char})", "there is none in grammars; name the characters around it")
        if char in ("k", *"123456789"):
            self.fail(f"a reference back (\\{char})", "no grammar can repeat what it matched")
        return self._property() or _literal(self._escaped_char())

    def _property(self) -> str:
        found = _PROPERTY.match(self._pattern, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return f"\\{found[0]}"

    def _escaped_char(self) -> str:
        """The character that an escape stands for; the backslash is behind us."""
        char = self._peek()
        code = _HEX.match(self._pattern, self.at)
        if code is not None:
            self.at = code.end()
            return self._code_point(int(code[1] or code[2] or code[3], 16))
        if not char:
            self.fail("a \\ at its end")
        if char in _CONTROLS:
            self.at += 1
            return _CONTROLS[char]
        if char.isalnum():
            self.fail(f"the escape \\{char}")
        self.at += 1
        return char

    def _code_point(self, code: int) -> str:
        if 0xD800 <= code < 0xDC00:
            low = _LOW_SURROGATE.match(self._pattern, self.at)
            if low is not None:
                self.at = low.end()
                return chr(0x10000 + ((code - 0xD800) << 10) + int(low[1], 16) - 0xDC00)
        if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
            self.fail(f"the code {code:X}, which is no character")
        return chr(code)

    def _char_class(self) -> str:
        negated = self._peek() == "^"
        self.at += negated
        sets = _WIDE if negated else _NARROW
        parts: list[str] = []
        while (char := self._peek()) != "]":
            if not char:
                self.fail("a [ without its ]")
            first = self._class_part(sets)
            if self._peek() != "-" or self._peek(2) in ("-]", "-"):
                parts.append(first if len(first) > 1 else _literal(first))
                continue
            self.at += 1
            last = self._class_part(sets)
            if len(first) > 1 or len(last) > 1 or last < first:
                self.fail("a range without two ends in order")
            parts.append(f"{_literal(first)}-{_literal(last)}")
        self.at += 1
        if not parts:
            if not negated:
                self.fail("an empty [], which nothing matches")
            return r"[\x{0}-\x{10FFFF}]"
        return f"[{'^' if negated else ''}{''.join(parts)}]"

    def _class_part(self, sets: dict[str, str]) -> str:
        """One character, or a whole set of them as text of more than one."""
        char = self._peek()
        self.at += 1
        if char != "\\":
            return char
        named = self._peek()
        if named in sets:
            self.at += 1
            return sets[named]
        if named == "b":
            self.fail("a backspace (\\b)", "no string of an answer holds control characters")
        return self._property() or self._escaped_char()


def _literal(char: str) -> str:
    """A character for itself, inside a class and outside."""
    if char < " " and char not in "\t\n\v\f\r":
        return rf"\x{{{ord(char):X}}}"
    return char if char.isalnum() and char.isascii() else rf"\x{{{ord(char):X}}}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
