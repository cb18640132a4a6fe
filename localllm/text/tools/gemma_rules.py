"""Grammar rules for arguments as Gemma spells them, by a JSON Schema. Bounds of numbers and texts are not in it."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from localllm.api import ToolSpec
from localllm.errors import InvalidRequestError
from localllm.text.tools.gemma import QUOTE
from localllm.text.tools.rules import Rules, any_of, literal

_NOTES = frozenset({"title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly"})
_KNOWN = frozenset({"type", "properties", "required", "additionalProperties", "items", "enum", "const"}) | _NOTES
_INTEGER = "/-?(0|[1-9][0-9]{0,17})/"
_NUMBER = "/-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,17})?/"
_MAX_DEPTH = 16


def gemma_arguments(tool: ToolSpec, rules: Rules) -> str:
    """A rule for a tool's arguments. Raises InvalidRequestError for a strict tool that asks for more."""
    return _Writer(tool, rules).value({"type": "object", **tool.parameters}, 0)


class _Writer:
    """Writes the rules of one tool."""

    def __init__(self, tool: ToolSpec, rules: Rules) -> None:
        self._tool = tool
        self._rules = rules

    def value(self, schema: Any, depth: int) -> str:
        """A rule for what a schema accepts."""
        if not isinstance(schema, dict) or depth > _MAX_DEPTH:
            return self._anything()
        if self._tool.strict and (unknown := sorted(schema.keys() - _KNOWN - {"anyOf", "$schema"})):
            self._refuse(unknown[0])
        if "const" in schema or "enum" in schema:
            values = [schema["const"]] if "const" in schema else schema["enum"]
            return any_of([self._constant(value) for value in values])
        if isinstance(options := schema.get("anyOf", schema.get("oneOf")), list) and options:
            return any_of([self.value(option, depth + 1) for option in options])
        kinds = schema.get("type")
        if isinstance(kinds, list) and kinds:
            return any_of([self.value({**schema, "type": kind}, depth + 1) for kind in kinds])
        match kinds:
            case "string":
                return self._text()
            case "integer":
                return self._rules.rule("integer", _INTEGER)
            case "number":
                return self._rules.rule("number", _NUMBER)
            case "boolean":
                return '("true" | "false")'
            case "null":
                return '"null"'
            case "array":
                item = self.value(schema.get("items"), depth + 1)
                return self._rules.rule("list", f'"[" ({item} ("," {item})*)? "]"')
            case "object":
                return self._object(schema, depth)
        return self._anything()

    def _object(self, schema: dict[str, Any], depth: int) -> str:
        """Members in the schema's order. `first` begins with the first one there, `rest` goes on with a comma."""
        members = schema.get("properties")
        if not isinstance(members, dict):
            return self._rules.rule("object", '"{" "}"') if depth == 0 else self._anything_in("{", "}")
        required = set(schema.get("required", ()))
        rest, first = "", ""
        for key, value in reversed(members.items()):
            if any(char in key for char in '{}[]:,<>"\n') or not key:
                self._refuse(f"the argument name {key[:40]!r}")
            own = self._rules.rule("member", f"{literal(key + ':')} {self.value(value, depth + 1)}")
            if key in required:
                first, rest = f"{own} {rest}", f'"," {own} {rest}'
            else:
                first = f"({own} {rest} | {first})" if first else f"({own} {rest})?"
                rest = f'("," {own})? {rest}'
            rest = self._rules.rule("rest", rest)
        first = self._rules.rule("members", first) if first else ""
        return self._rules.rule("object", f'"{{" {first} "}}"')

    def _constant(self, value: Any) -> str:
        if isinstance(value, str):
            return f"{self._rules.markup(QUOTE)} {literal(value) if value else ''} {self._rules.markup(QUOTE)}"
        if isinstance(value, dict | list):
            self._refuse("a list or an object as a constant")
        return literal(json.dumps(value))

    def _text(self) -> str:
        return self._rules.rule("string", f"{self._rules.markup(QUOTE)} {self._rules.text_until(QUOTE)}")

    def _anything(self) -> str:
        scalar = any_of([self._text(), self._rules.rule("number", _NUMBER), '"true"', '"false"', '"null"'])
        return self._rules.rule("anything", scalar)

    def _anything_in(self, opened: str, closed: str) -> str:
        member = f"/[A-Za-z_][A-Za-z0-9_]{{0,63}}/ {literal(':')} {self._anything()}"
        return self._rules.rule("open", f'{literal(opened)} ({member} ("," {member})*)? {literal(closed)}')

    def _refuse(self, what: str) -> NoReturn:
        hint = "this model writes arguments in its own markup; leave strict out, or simplify the schema"
        raise InvalidRequestError(f"strict cannot be kept for {self._tool.name}: {what}", hint=hint, param="tools")
