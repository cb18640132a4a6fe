"""Rules: the parts of a grammar in llguidance's Lark, for markup that may hold special tokens. Text only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What has a meaning of its own in a Rust regular expression between slashes.
_META = re.compile(r"[\\.+*?()|\[\]{}^$/#&~-]")
_NUMBER = re.compile(r"(\{n\})")


class Rules:
    """Collects the rules of one grammar. `special` has the ids of special tokens, by text."""

    def __init__(self, special: Mapping[str, int]) -> None:
        self._special = special
        texts = sorted(special, key=len, reverse=True)
        self._splitter = re.compile("(" + "|".join(map(re.escape, texts)) + ")") if texts else None
        self._rules: list[str] = []
        self._names: dict[str, str] = {}

    def __str__(self) -> str:
        return "\n".join(self._rules) + "\n"

    def rule(self, name: str, body: str) -> str:
        """A rule of its own; its name. The same body twice is one rule."""
        if body not in self._names:
            self._names[body] = f"{name}_{len(self._names)}"
            self._rules.append(f"{self._names[body]}: {body}")
        return self._names[body]

    def start(self, body: str) -> None:
        """The rule that everything begins with."""
        self._rules.insert(0, f"start: {body}")

    def markup(self, text: str) -> str:
        """A text of ours as terms: special tokens where the vocabulary has them, "{n}" any number."""
        if not text:
            return ""
        parts = self._splitter.split(text) if self._splitter is not None else [text]
        terms = []
        for part in parts:
            if part in self._special:
                terms.append(f"<[{self._special[part]}]>")
                continue
            terms += ["/[0-9]{1,4}/" if piece == "{n}" else literal(piece) for piece in _NUMBER.split(part) if piece]
        return " ".join(terms)

    def is_special(self, text: str) -> bool:
        """Whether a text is one special token."""
        return text in self._special

    def text(self) -> str:
        """Any text; never nothing."""
        return self.rule("text", "/(?s:.+)/")

    def text_until(self, close: str) -> str:
        """Any text up to `close` and that itself, both in terms. The first `close` ends it."""
        if self.is_special(close):
            return f"{self.text()}? {self.markup(close)}"
        body = f"/(?s:.*){escaped(close)}/"
        if body not in self._names:
            self._names[body] = f"until_{len(self._names)}"
            self._rules.append(f"{self._names[body]}[lazy]: {body}")
        return self._names[body]

    def text_without(self, text: str) -> str:
        """Any text in which this does not stand; never nothing."""
        return self._plain(f"(?s:.*){escaped(text)}(?s:.*)")

    def text_that_is_no_json(self) -> str:
        """Any text that does not begin like a JSON object or list; never nothing."""
        return self._plain(r"\s*[\{\[](?s:.*)")

    def _plain(self, barred: str) -> str:
        body = f"/(?s:.+)/ & ~/{barred}/"
        if body not in self._names:
            self._names[body] = f"PLAIN_{len(self._names)}"
            self._rules.append(f"{self._names[body]}: {body}")
        return self._names[body]

    def other_specials(self, without: Iterable[str], ends: Iterable[int]) -> str:
        """Any special token but these and those that end an answer; "" where there is none."""
        barred = {self._special[text] for text in without if text in self._special} | set(ends)
        ids = sorted(set(self._special.values()) - barred)
        return f"<[{_ranges(ids)}]>" if ids else ""

    def json(self, schema: Mapping[str, Any] | bool) -> str:
        """JSON that a schema accepts."""
        return self.rule("json", f"%json {json.dumps(schema, ensure_ascii=False)}")


def literal(text: str) -> str:
    """A text as a Lark literal."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\x7f")


def escaped(text: str) -> str:
    """A text as a regular expression."""
    return _META.sub(lambda match: "\\" + match[0], text).replace("\n", "\\n")


def any_of(terms: Sequence[str]) -> str:
    """One of several terms."""
    return terms[0] if len(terms) == 1 else "(" + " | ".join(terms) + ")"


def _ranges(ids: Sequence[int]) -> str:
    ranges: list[list[int]] = []
    for token in ids:
        if ranges and token == ranges[-1][1] + 1:
            ranges[-1][1] = token
        else:
            ranges.append([token, token])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)
