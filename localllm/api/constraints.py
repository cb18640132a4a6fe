"""The form an answer may be bound to."""

from __future__ import annotations

from typing import Any

from localllm.api.value import Value


class JsonSchema(Value, frozen=True, tag="json_schema"):
    """The answer is JSON that the schema accepts. A keyword that cannot be enforced is an error that names it."""

    schema: dict[str, Any] | bool


class JsonObject(Value, frozen=True, tag="json_object"):
    """The answer is some JSON object."""


class Regex(Value, frozen=True, tag="regex"):
    """The whole answer matches a regular expression in Rust's syntax: no look-around, no back-references."""

    pattern: str


class Choice(Value, frozen=True, tag="choice"):
    """The answer is one of these strings."""

    choices: tuple[str, ...]


class Lark(Value, frozen=True, tag="lark"):
    """The answer follows a Lark grammar (llguidance's dialect)."""

    grammar: str


class Gbnf(Value, frozen=True, tag="gbnf"):
    """The answer follows a GBNF grammar, as llama.cpp reads it. The start rule is `root`."""

    grammar: str


Constraint = JsonSchema | JsonObject | Regex | Choice | Lark | Gbnf
