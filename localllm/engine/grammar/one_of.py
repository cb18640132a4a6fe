"""`oneOf` as `anyOf`, where no document satisfies two of its schemas; elsewhere it is refused.

A grammar offers choices, it cannot count how many fit. The proof is by type, by values (a `const` tag in a required
property, as discriminated unions have it) and by number ranges; references are followed.
"""

from __future__ import annotations

import json
from typing import Any

from localllm.engine.grammar.keywords import TYPES, subschemas
from localllm.engine.grammar.limits import refuse

Schema = dict[str, Any] | bool

_MAX_LOOK = 8


def resolve_one_of(schemas: list[Schema], defs: dict[str, Schema]) -> None:
    """Turn every oneOf in `schemas` into anyOf, in place. Raises InvalidRequestError."""
    todo: list[Any] = list(schemas)
    while todo:
        node = todo.pop()
        if not isinstance(node, dict):
            continue
        todo += subschemas(node)
        if "oneOf" not in node:
            continue
        options = [option for option in node.pop("oneOf") if option is not False]
        _check_disjoint(options, defs, todo_root=schemas[0])
        if not options:
            node["enum"] = []
        elif "anyOf" in node:
            node.setdefault("allOf", []).append({"anyOf": options})
        else:
            node["anyOf"] = options


def _check_disjoint(options: list[Schema], defs: dict[str, Schema], todo_root: Schema) -> None:
    judge = _Judge(defs, todo_root)
    for second, option in enumerate(options):
        for first in range(second):
            if not judge.apart(options[first], option, 0):
                hint = "use anyOf, or give each a required property with a const of its own"
                refuse(f"oneOf whose schemas {first} and {second} may both fit", hint=hint, keyword="oneOf")


class _Judge:
    """Decides whether two schemas have no document in common."""

    def __init__(self, defs: dict[str, Schema], root: Schema) -> None:
        self._defs = defs
        self._root = root

    def apart(self, one: Schema, other: Schema, look: int) -> bool:
        """Whether no document satisfies both; False where that cannot be shown."""
        if one is False or other is False:
            return True
        if look > _MAX_LOOK:
            return False
        ones, others = self._parts(one), self._parts(other)
        common = _kinds(ones) & _kinds(others)
        if not common:
            return True
        return (
            self._choices_apart(ones, other, look)
            or self._choices_apart(others, one, look)
            or all(self._kind_apart(kind, ones, others, look) for kind in common)
        )

    def _parts(self, schema: Schema) -> list[dict[str, Any]]:
        """All that holds at once: the schema itself, what it refers to, and its allOf."""
        found: list[dict[str, Any]] = []
        todo = [schema]
        while todo and len(found) < 64:
            node = todo.pop()
            if not isinstance(node, dict) or any(node is part for part in found):
                continue
            found.append(node)
            todo += node.get("allOf", ())
            if "$ref" in node:
                name = node["$ref"].removeprefix("#/$defs/")
                todo.append(self._root if name == "#" else self._defs[name])
        return found

    def _choices_apart(self, parts: list[dict[str, Any]], other: Schema, look: int) -> bool:
        """Whether some anyOf among the parts has no option that can meet `other`."""
        return any(
            all(self.apart(option, other, look + 1) for option in part[name])
            for part in parts
            for name in ("anyOf", "oneOf")
            if name in part
        )

    def _kind_apart(self, kind: str, ones: list[dict[str, Any]], others: list[dict[str, Any]], look: int) -> bool:
        mine, theirs = _values(ones, kind), _values(others, kind)
        if mine is not None and theirs is not None:
            return not mine & theirs
        if kind == "number":
            return _ranges_apart(ones, others)
        if kind == "string":
            return _least(ones, "minLength") > _most(others, "maxLength") or _least(others, "minLength") > _most(
                ones, "maxLength"
            )
        if kind == "array":
            return _least(ones, "minItems") > _most(others, "maxItems") or _least(others, "minItems") > _most(
                ones, "maxItems"
            )
        return kind == "object" and self._objects_apart(ones, others, look)

    def _objects_apart(self, ones: list[dict[str, Any]], others: list[dict[str, Any]], look: int) -> bool:
        for mine, theirs in ((ones, others), (others, ones)):
            for name in {name for part in mine for name in part.get("required", ())}:
                if any(_forbids(part, name) for part in theirs):
                    return True
                pairs = [(a, b) for a in _members(mine, name) for b in _members(theirs, name)]
                if any(self.apart(a, b, look + 1) for a, b in pairs):
                    return True
        return False


def _members(parts: list[dict[str, Any]], name: str) -> list[Schema]:
    return [part["properties"][name] for part in parts if name in part.get("properties", {})]


def _forbids(part: dict[str, Any], name: str) -> bool:
    return (
        part.get("additionalProperties") is False
        and name not in part.get("properties", {})
        and not part.get("patternProperties")
    )


def _kinds(parts: list[dict[str, Any]]) -> set[str]:
    """The types that all parts allow; integers are numbers here."""
    found = set(TYPES)
    for part in parts:
        kinds = part.get("type", TYPES)
        allowed = {kinds} if isinstance(kinds, str) else set(kinds)
        if "integer" in allowed:
            allowed.add("number")
        found &= allowed
        values = _listed(part)
        if values is not None:
            found &= {_kind_of(value) for value in values}
    found.discard("integer")
    return found


def _listed(part: dict[str, Any]) -> list[Any] | None:
    """The only values a part allows, where it lists them."""
    if "const" in part:
        return [part["const"]]
    return part.get("enum")


def _values(parts: list[dict[str, Any]], kind: str) -> set[str] | None:
    """The values of one type that the parts allow, each as JSON; None where they are not listed."""
    found: set[str] | None = None
    for part in parts:
        values = _listed(part)
        if values is not None:
            mine = {json.dumps(value, sort_keys=True) for value in values if _kind_of(value) == kind}
            found = mine if found is None else found & mine
    return found


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    for kind, types in (("boolean", bool), ("string", str), ("array", list), ("object", dict)):
        if isinstance(value, types):
            return kind
    return "number"


def _least(parts: list[dict[str, Any]], name: str) -> float:
    return max((part[name] for part in parts if name in part), default=0)


def _most(parts: list[dict[str, Any]], name: str) -> float:
    return min((part[name] for part in parts if name in part), default=float("inf"))


def _ranges_apart(ones: list[dict[str, Any]], others: list[dict[str, Any]]) -> bool:
    return _ends_below(ones, others) or _ends_below(others, ones)


def _ends_below(ones: list[dict[str, Any]], others: list[dict[str, Any]]) -> bool:
    """Whether every number of `ones` is lower than every one of `others`."""
    high, strict_high = _most(ones, "maximum"), _most(ones, "exclusiveMaximum")
    low = max((part["minimum"] for part in others if "minimum" in part), default=-float("inf"))
    strict_low = max((part["exclusiveMinimum"] for part in others if "exclusiveMinimum" in part), default=-float("inf"))
    return high < low or strict_high <= low or high <= strict_low or strict_high <= strict_low
