"""A JSON Schema, checked and rewritten into what llguidance enforces to the letter.

Every keyword is one of three: enforced, an annotation, or refused by its name and place; none is passed on unread.
Schemas are read as draft 2020-12; what earlier drafts wrote otherwise (array `items`, `additionalItems`, boolean
`exclusiveMinimum` in draft 4) is understood where it cannot mean anything else.

An answer always satisfies the schema, but not every document that satisfies it can be an answer: properties come in the
schema's order, integers have no fraction (1.0), numbers with bounds no exponent, fractions all the digits that
`multipleOf` has (1.50 for 0.25), strings no \\u escapes.
"""

from __future__ import annotations

import json
import math
from typing import Any

from localllm.engine.grammar import keywords
from localllm.engine.grammar.limits import (
    MAX_ALTERNATIVES,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_REF_DEPTH,
    MAX_SCHEMAS,
    refuse,
    within,
)
from localllm.engine.grammar.one_of import resolve_one_of
from localllm.engine.grammar.references import References, child
from localllm.engine.grammar.satisfiable import without_endless

Schema = dict[str, Any] | bool

_DRAFTS = frozenset(
    {f"https://json-schema.org/draft/{year}/schema" for year in ("2019-09", "2020-12")}
    | {f"http://json-schema.org/draft-0{number}/schema" for number in (4, 6, 7)}
)
_DRAFT_4 = "http://json-schema.org/draft-04/schema"


def normalize(schema: object) -> dict[str, Any]:
    """The schema for llguidance: every keyword known, references to `#/$defs/…` only. Raises InvalidRequestError."""
    if schema is False:
        refuse("the schema false, which nothing satisfies")
    if schema is True:
        return {}
    if not isinstance(schema, dict):
        refuse("a schema that is no object", hint="a JSON Schema is an object, true or false")
    _check_shape(schema)
    reader = _Reader(schema)
    top = reader.read(schema, "#", 0)
    defs = without_endless({"#": top, **reader.defs})
    top = defs.pop("#")
    if top is False:
        refuse("a schema that no finite document satisfies", hint="a required property may lead back to itself")
    resolve_one_of([top, *defs.values()], defs)
    _check_alternatives(top, defs)
    whole = {} if top is True else dict(top)
    if defs:
        whole["$defs"] = defs
    return whole


def _check_shape(schema: object) -> None:
    """Refuse what is too deep or too large before anything walks it by recursion."""
    level: list[object] = [schema]
    for _ in range(MAX_DEPTH + 1):
        level = [
            item
            for node in level
            if isinstance(node, dict | list)
            for item in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            break
        within(len(level), MAX_BYTES, "a schema of too many values")
    else:
        refuse(f"a schema nested more than {MAX_DEPTH} levels deep", hint="use $ref for what repeats")
    try:
        size = len(json.dumps(schema, ensure_ascii=False, allow_nan=False).encode())
    except UnicodeEncodeError:
        refuse("a schema with half a surrogate pair in it")
    except (TypeError, ValueError) as exc:
        refuse(f"a schema that is no JSON ({exc})")
    within(size, MAX_BYTES, "a schema of too many bytes")


class _Reader:
    """Reads one schema; `defs` collects what its references lead to."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.defs: dict[str, Schema] = {}
        self._references = References(root)
        self._num_schemas = 0
        draft = root.get("$schema", "")
        if draft and (not isinstance(draft, str) or draft.rstrip("#") not in _DRAFTS):
            refuse(f"$schema {draft!r}", hint="draft 4 to 2020-12 are known", path="#")
        self._is_draft_4 = draft.rstrip("#") == _DRAFT_4

    def read(self, node: object, path: str, depth: int) -> Schema:
        """One schema, rewritten."""
        self._num_schemas += 1
        within(self._num_schemas, MAX_SCHEMAS, "too many schemas in one")
        if depth > MAX_REF_DEPTH:
            refuse("references nested too deep", hint=f"at most {MAX_REF_DEPTH} levels in all", path=path)
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            refuse("a schema that is no object", hint="a JSON Schema is an object, true or false", path=path)
        self._check_names(node, path)
        found: dict[str, Any] = {}
        keywords.read_values(node, found, path, is_draft_4=self._is_draft_4)
        self._read_array(node, found, path, depth)
        self._read_object(node, found, path, depth)
        if "$ref" in node:
            found["$ref"] = self._reference(node["$ref"], child(path, "$ref"), depth)
        for name in ("allOf", "anyOf", "oneOf"):
            if name in node:
                found[name] = [*found.get(name, ()), *self._read_list(node[name], child(path, name), depth, least=1)]
        return found

    def _check_names(self, node: dict[str, Any], path: str) -> None:
        for name, value in node.items():
            at = child(path, name)
            if name in keywords.REFUSED:
                if not keywords.means_nothing(name, value, node):
                    refuse(f"{name} cannot be enforced", hint=keywords.REFUSED[name], path=at, keyword=name)
            elif name in ("$id", "id") and path != "#":
                refuse(f"{name} inside a schema", hint="give the whole schema one base", path=at, keyword=name)
            elif name == "$schema" and path != "#":
                refuse("$schema inside a schema", path=at, keyword=name)
            elif name not in keywords.ENFORCED and not keywords.is_annotation(name):
                refuse(
                    f"the unknown keyword {name!r}", hint="it would have no effect; remove it", path=at, keyword=name
                )

    def _read_list(self, value: object, path: str, depth: int, least: int = 0) -> list[Schema]:
        if not isinstance(value, list) or len(value) < least:
            refuse("a list of schemas is wanted", path=path)
        return [self.read(item, child(path, index), depth + 1) for index, item in enumerate(value)]

    def _read_array(self, node: dict[str, Any], found: dict[str, Any], path: str, depth: int) -> None:
        items, rest = node.get("items"), node.get("items")
        first = node.get("prefixItems")
        if isinstance(items, list):
            if first is not None:
                refuse("prefixItems and a list of items", path=child(path, "items"))
            first, rest = items, node.get("additionalItems")
        elif "additionalItems" in node:
            refuse("additionalItems without a list of items", path=path, keyword="additionalItems")
        first_name, rest_name = ("items", "additionalItems") if isinstance(items, list) else ("prefixItems", "items")
        if first is not None:
            found["prefixItems"] = self._read_list(first, child(path, first_name), depth)
        if rest is not None:
            found["items"] = self.read(rest, child(path, rest_name), depth + 1)

    def _read_object(self, node: dict[str, Any], found: dict[str, Any], path: str, depth: int) -> None:
        for name in ("properties", "patternProperties"):
            if name not in node:
                continue
            at = child(path, name)
            members = node[name]
            if not isinstance(members, dict):
                refuse(f"{name} that is no object", path=at)
            found[name] = {
                keywords.member_name(name, key, child(at, key)): self.read(value, child(at, key), depth + 1)
                for key, value in members.items()
            }
        if "additionalProperties" in node:
            at = child(path, "additionalProperties")
            found["additionalProperties"] = self.read(node["additionalProperties"], at, depth + 1)
        keywords.check_counts(node, found, path)

    def _reference(self, reference: object, path: str, depth: int) -> str:
        name, target, at = self._references.resolve(reference, path)
        if at != "#" and name not in self.defs:
            self.defs[name] = True  # being read: a reference back finds its name taken
            self.defs[name] = self.read(target, at, depth + 1)
        return "#" if at == "#" else f"#/$defs/{name}"


def _check_alternatives(top: Schema, defs: dict[str, Schema]) -> None:
    """Refuse choices that multiply: where several hold at once, each option of one meets each of the others."""
    known: dict[str, int] = {}

    def count(node: object) -> int:
        if not isinstance(node, dict):
            return 1
        factors = [len(node.get("enum", ()))]
        if "$ref" in node:
            factors.append(target(node["$ref"]))
        factors += map(count, node.get("allOf", ()))
        if "anyOf" in node:
            factors.append(sum(map(count, node["anyOf"])))
        factors = [factor for factor in factors if factor > 1]
        found = math.prod(factors)
        if len(factors) > 1:
            within(found, MAX_ALTERNATIVES, "enum, anyOf, allOf and $ref that multiply to too many cases")
        return found

    def target(reference: str) -> int:
        if reference not in known:
            known[reference] = 1
            known[reference] = count(top if reference == "#" else defs[reference.removeprefix("#/$defs/")])
        return known[reference]

    for node in _nodes([top, *defs.values()]):
        count(node)


def _nodes(schemas: list[Schema]) -> list[dict[str, Any]]:
    """Every schema in some schemas, outermost first."""
    found: list[dict[str, Any]] = []
    level: list[Any] = list(schemas)
    while level:
        dicts = [node for node in level if isinstance(node, dict)]
        found += dicts
        level = [inner for node in dicts for inner in keywords.subschemas(node)]
    return found
