"""Lark grammars in llguidance's dialect, looked over before native code parses them; JSON Schemas in them rewritten.

Owns caps and what of the dialect is not offered: what depends on the server (temperature, stop, max_tokens) or escapes
the checks.
"""

from __future__ import annotations

import json
import re

from localllm.engine.grammar.json_schema import normalize
from localllm.engine.grammar.limits import (
    MAX_BYTES,
    MAX_NESTED_REPEATS,
    MAX_PATTERN_DEPTH,
    MAX_REPEATS,
    MAX_RULES,
    refuse,
    within,
)
from localllm.engine.grammar.options import with_options
from localllm.engine.grammar.regexes import check_regex

_TOKEN = re.compile(
    r"""(?P<comment>(?://|\#)[^\n]*)
    |(?P<space>[\ \t\r\n]+)
    |(?P<text>"(?:\\.|[^"\\\n])*"i?)
    |(?P<regex>/(?:\\[^\n]|[^/\\])+/[a-zA-Z]*)
    |(?P<special><[^<>\s]+>)
    |(?P<directive>%[a-z]+)
    |(?P<count>\{\s*\d*\s*,?\s*\d*\s*\}|~\s*\d+(?:\s*\.\.\s*\d+)?)
    |(?P<name>[!?_A-Za-z][\w.-]*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_DIRECTIVES = frozenset({"%ignore", "%import", "%json", "%llguidance"})
_ATTRIBUTES = frozenset({"max_tokens", "temperature", "stop"})


def checked(grammar: str) -> str:
    """The grammar to hand on. Raises InvalidRequestError."""
    within(len(grammar.encode("utf-8", "replace")), MAX_BYTES, "a grammar of too many bytes")
    parts: list[str] = []
    depth = _Depth()
    at = 0
    while at < len(grammar):
        found = _TOKEN.match(grammar, at)
        assert found is not None
        text, at = found[0], found.end()
        match found.lastgroup:
            case "comment":
                continue  # native code sees what was looked at, nothing else
            case "regex":
                check_regex(text[1 : text.rindex("/")])
            case "directive":
                text, at = _directive(grammar, text, at)
            case "name" if text in _ATTRIBUTES and depth.in_attributes:
                refuse(f"the attribute {text} in a grammar", hint="it belongs to the request", keyword=text)
            case "other" if text == "@":
                refuse("a reference to another grammar (@)", hint="there is only one in a request")
            case "count":
                depth.repeat(text)
            case "other":
                depth.take(text)
        if found.lastgroup not in ("space", "count"):
            depth.read(text)
        parts.append(text)
    depth.end()
    return "".join(parts)


def _directive(grammar: str, name: str, at: int) -> tuple[str, int]:
    """A directive to hand on, and where what follows begins."""
    if name not in _DIRECTIVES:
        refuse(f"{name} in a grammar", hint="known are " + ", ".join(sorted(_DIRECTIVES)), keyword=name)
    if name not in ("%json", "%llguidance"):
        return name, at
    try:
        value, end = json.JSONDecoder().raw_decode(grammar, at + len(grammar[at:]) - len(grammar[at:].lstrip()))
    except (ValueError, RecursionError) as exc:
        refuse(f"{name} without JSON after it", hint=str(exc)[:200])
    if name == "%json":
        return f"%json {json.dumps(with_options(normalize(value)), ensure_ascii=False)}", end
    if value != {}:
        refuse("options of %llguidance in a grammar", hint="they are fixed")
    return "%llguidance {}", end


class _Depth:
    """How deep groups go, how their bounds multiply, and how many rules there are."""

    def __init__(self) -> None:
        self._open: list[tuple[str, int]] = [("", 1)]
        self._last = 1
        self._num_rules = 0

    @property
    def in_attributes(self) -> bool:
        """Whether a [ is open."""
        return self._open[-1][0] == "["

    def read(self, text: str) -> None:
        """Something was read that bounds may repeat."""
        if text not in (")", "*", "+", "?"):
            self._last = 1

    def take(self, char: str) -> None:
        """A character with a meaning of its own."""
        if char in "([":
            self._open.append((char, 1))
            within(len(self._open), MAX_PATTERN_DEPTH, "a grammar with too many groups inside each other")
        elif char in ")]":
            if len(self._open) == 1:
                refuse(f"a grammar with an unmatched {char}")
            _, self._last = self._open.pop()
            self._raise(self._last)
        elif char == ":":
            self._num_rules += 1
            within(self._num_rules, MAX_RULES, "a grammar of too many rules")

    def repeat(self, bounds: str) -> None:
        """Bounds after what was read last."""
        numbers = re.findall(r"\d+", bounds)
        if any(len(number) > 9 for number in numbers):
            refuse(f"the bounds {bounds[:40]}", hint=f"at most {MAX_REPEATS}")
        most = max([1, *map(int, numbers)])
        within(most, MAX_REPEATS, "a grammar with too high a bound")
        self._last *= most
        within(self._last, MAX_NESTED_REPEATS, "a grammar whose bounds multiply to too much")
        self._raise(self._last)

    def end(self) -> None:
        """The grammar is read."""
        if len(self._open) > 1:
            refuse(f"a grammar with a {self._open[-1][0]} without its end")

    def _raise(self, repeats: int) -> None:
        kind, most = self._open[-1]
        self._open[-1] = kind, max(most, repeats)
