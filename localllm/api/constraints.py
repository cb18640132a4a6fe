"""The form an answer may be bound to."""

from __future__ import annotations

from typing import Any

from localllm.api.value import Value
from localllm.errors import InvalidRequestError

# What travels to the engine; the caps of the compiler there are lower.
MAX_CONSTRAINT_DEPTH = 128
MAX_CONSTRAINT_VALUES = 200_000
MAX_CONSTRAINT_CHARS = 1 << 20


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


# What a person may give instead of a Constraint: "json", or a JSON Schema.
Format = str | dict[str, Any] | bool
Constraint = JsonSchema | JsonObject | Regex | Choice | Lark | Gbnf


def as_constraint(value: Constraint | Format) -> Constraint:
    """What `format` means: "json" is any JSON object, a dict a JSON Schema. Raises InvalidRequestError."""
    if isinstance(value, Constraint):
        return value
    if value == "json":
        return JsonObject()
    if isinstance(value, dict | bool):
        return JsonSchema(value)
    hint = 'it is "json", a JSON Schema as a dict, or a constraint'
    raise InvalidRequestError(f"the format {str(value)[:60]!r}", hint=hint, param="format")


def check_constraint(constraint: Constraint) -> None:
    """Raise InvalidRequestError for one too large to be sent to the engine, which looks at what it says."""
    match constraint:
        case JsonSchema(schema):
            _check_schema(schema)
        case Choice(choices):
            _check_size(sum(map(len, choices)), MAX_CONSTRAINT_CHARS, "characters of choices")
        case Regex(text) | Lark(text) | Gbnf(text):
            _check_size(len(text), MAX_CONSTRAINT_CHARS, "characters of grammar")
        case JsonObject():
            pass


def _check_schema(schema: object) -> None:
    """By levels, not by recursion: the depth is what is in question."""
    level: list[object] = [schema]
    num_values = num_chars = 0
    for _ in range(MAX_CONSTRAINT_DEPTH):
        num_values += len(level)
        _check_size(num_values, MAX_CONSTRAINT_VALUES, "values in a schema")
        dicts = [node for node in level if isinstance(node, dict)]
        num_chars += sum(len(node) for node in level if isinstance(node, str))
        num_chars += sum(len(key) for node in dicts for key in node if isinstance(key, str))
        _check_size(num_chars, MAX_CONSTRAINT_CHARS, "characters of schema")
        lists = [node for node in level if isinstance(node, list)]
        level = [value for node in dicts for value in node.values()] + [item for node in lists for item in node]
        if not level:
            return
    hint = "use $ref for what repeats"
    raise InvalidRequestError(
        f"a schema nested more than {MAX_CONSTRAINT_DEPTH} levels deep", hint=hint, param="constraint"
    )


def _check_size(size: int, most: int, what: str) -> None:
    if size > most:
        raise InvalidRequestError(f"{size} {what}", hint=f"at most {most}", param="constraint")
