"""Which schemas of a set have a finite document at all: those that do not become `false`.

A required property that leads back to its own schema would let an answer begin that can never end.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any] | bool


def without_endless(schemas: dict[str, Schema]) -> dict[str, Schema]:
    """The schemas, by the name references use ("#" or that after "#/$defs/"), the endless ones inside replaced."""
    ending: set[str] = set()
    while True:
        more = {name for name, schema in schemas.items() if name not in ending and _ends(schema, ending)}
        if not more:
            break
        ending |= more
    if len(ending) == len(schemas):
        return schemas
    return {name: _pruned(schema, ending) for name, schema in schemas.items()}


def _ends(schema: Schema, ending: set[str]) -> bool:
    """Whether a document can come to its end, if those of `ending` can. Never False for one that can."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema and schema["$ref"].removeprefix("#/$defs/") not in ending:
        return False
    if not all(_ends(member, ending) for member in schema.get("allOf", ())):
        return False
    for name in ("anyOf", "oneOf"):
        if name in schema and not any(_ends(member, ending) for member in schema[name]):
            return False
    kinds = schema.get("type")
    kinds = {kinds} if isinstance(kinds, str) else set(kinds or ("null",))
    return any(_kind_ends(kind, schema, ending) for kind in kinds)


def _kind_ends(kind: str, schema: dict[str, Any], ending: set[str]) -> bool:
    if kind == "object":
        members = schema.get("properties", {})
        return all(_ends(members.get(name, True), ending) for name in schema.get("required", ()))
    if kind == "array":
        first = schema.get("prefixItems", [])
        least = schema.get("minItems", 0)
        rest = [schema.get("items", True)] if least > len(first) else []
        return all(_ends(item, ending) for item in [*first[:least], *rest])
    return True


def _pruned(schema: Schema, ending: set[str]) -> Schema:
    if isinstance(schema, bool):
        return schema
    if not _ends(schema, ending):
        return False
    pruned = dict(schema)
    for name in ("items", "additionalProperties"):
        if name in pruned:
            pruned[name] = _pruned(pruned[name], ending)
    for name in ("prefixItems", "allOf", "anyOf", "oneOf"):
        if name in pruned:
            pruned[name] = [_pruned(member, ending) for member in pruned[name]]
    for name in ("properties", "patternProperties"):
        if name in pruned:
            pruned[name] = {key: _pruned(member, ending) for key, member in pruned[name].items()}
    return pruned
