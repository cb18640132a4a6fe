"""The keywords of JSON Schema: which are enforced, which say nothing about instances, which are refused and why.

Also reads those whose values are no schemas. Numbers are taken only where a double holds them exactly: llguidance
computes with doubles.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

from localllm.engine.grammar import formats
from localllm.engine.grammar.limits import (
    MAX_ITEMS,
    MAX_LENGTH,
    MAX_PROPERTIES,
    MAX_VALUE_BYTES,
    MAX_VALUES,
    refuse,
    within,
)
from localllm.engine.grammar.patterns import to_rust
from localllm.engine.grammar.references import child

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")

_ENFORCED = """
    $ref additionalItems additionalProperties allOf anyOf const enum exclusiveMaximum exclusiveMinimum format items
    maxItems maxLength maxProperties maximum minItems minLength minProperties minimum multipleOf oneOf pattern
    patternProperties prefixItems properties required type
"""
_ANNOTATED = """
    $anchor $comment $defs $id $schema contentEncoding contentMediaType default definitions deprecated description
    discriminator example examples externalDocs id readOnly title writeOnly xml
"""
ENFORCED = frozenset(_ENFORCED.split())
_ANNOTATIONS = frozenset(_ANNOTATED.split())
_ENUMERATE = "spell the allowed values out with enum, const or anyOf"
_SPLIT = "spell the cases out with anyOf"
REFUSED = {
    "$dynamicAnchor": "use $anchor and $ref",
    "$dynamicRef": "use $ref",
    "$recursiveAnchor": "use $anchor and $ref",
    "$recursiveRef": "use $ref",
    "$vocabulary": "only the standard vocabularies are known",
    "contains": "give items, or prefixItems, the schema",
    "contentSchema": "text inside text is not looked into",
    "dependencies": _SPLIT,
    "dependentRequired": _SPLIT,
    "dependentSchemas": _SPLIT,
    "else": _SPLIT,
    "if": _SPLIT,
    "maxContains": "use maxItems",
    "minContains": "use minItems",
    "not": _ENUMERATE,
    "nullable": 'list "null" among the types',
    "propertyNames": "use patternProperties and additionalProperties: false",
    "then": _SPLIT,
    "unevaluatedItems": "use items: false",
    "unevaluatedProperties": "use additionalProperties: false",
    "uniqueItems": "ask for it in the prompt, and check the answer",
    "x-guidance": "whitespace and escapes are fixed",
}

_LARGEST = 2**53
_MOST_DIGITS = 15
_UINT32 = 2**32
_NAMED_ESCAPES = frozenset("\b\t\n\f\r")


def is_annotation(name: str) -> bool:
    """Whether a keyword says nothing about what is valid; `x-…` is what vendors add."""
    return name in _ANNOTATIONS or name.startswith("x-")


def means_nothing(name: str, value: object, node: dict[str, Any]) -> bool:
    """Whether a keyword that is refused has no effect as it stands here."""
    if name == "uniqueItems":
        most = node.get("maxItems")
        return value is False or (isinstance(most, int) and most <= 1)
    return name == "nullable" and value is False


def subschemas(node: dict[str, Any]) -> list[Any]:
    """The schemas right inside a rewritten one."""
    found = [node[name] for name in ("items", "additionalProperties") if name in node]
    for name in ("prefixItems", "allOf", "anyOf", "oneOf"):
        found += node.get(name, ())
    for name in ("properties", "patternProperties", "$defs"):
        found += node.get(name, {}).values()
    return found


def read_values(node: dict[str, Any], found: dict[str, Any], path: str, *, is_draft_4: bool) -> None:
    """Check and copy the keywords of one schema that hold no schemas."""
    if "type" in node:
        found["type"] = _types(node["type"], child(path, "type"))
    for name in ("const", "enum"):
        if name in node:
            found[name] = _values(name, node[name], child(path, name))
    for name, most in (("minLength", MAX_LENGTH), ("maxLength", MAX_LENGTH), ("minItems", MAX_ITEMS)):
        _count(node, found, name, most, path)
    _count(node, found, "maxItems", MAX_ITEMS, path)
    if "pattern" in node:
        at = child(path, "pattern")
        found["pattern"] = to_rust(_text(node["pattern"], at), at)
    _read_numbers(node, found, path, is_draft_4=is_draft_4)
    if "format" in node:
        _read_format(node, found, path)


def _types(value: object, path: str) -> str | list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names:
        refuse("a type that is no name and no list of names", path=path)
    for name in names:
        if name not in TYPES:
            refuse(f"the type {name!r}", hint="the types are " + ", ".join(TYPES), path=path)
    return str(names[0]) if len(names) == 1 else [str(name) for name in dict.fromkeys(names)]


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        refuse("text is wanted", path=path)
    return value


def _count(node: dict[str, Any], found: dict[str, Any], name: str, most: int, path: str) -> None:
    if name not in node:
        return
    value, at = node[name], child(path, name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        refuse(f"{name} that is no whole number from 0 on", path=at)
    within(value, most, f"{name} too high", path=at)
    found[name] = value


def _values(name: str, value: object, path: str) -> Any:
    if name == "const":
        return _value(value, path)
    if not isinstance(value, list) or not value:
        refuse("an enum that is no list, or empty", path=path)
    within(len(value), MAX_VALUES, "an enum of too many values", path=path)
    return [_value(item, child(path, index)) for index, item in enumerate(value)]


def _value(value: object, path: str) -> Any:
    """A constant whose one spelling in an answer has exactly its value."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str):
        within(len(value.encode()), MAX_VALUE_BYTES, "a text of too many bytes", path=path)
        if any((char < " " and char not in _NAMED_ESCAPES) or char == "\x7f" for char in value):
            refuse("a text with a control character", hint="answers hold tab and line ends, no others", path=path)
        return value
    if isinstance(value, int | float):
        return _number(value, path)
    if isinstance(value, list):
        return [_value(item, child(path, index)) for index, item in enumerate(value)]
    assert isinstance(value, dict)
    return {key: _value(item, child(path, key)) for key, item in value.items()}


def _number(value: object, path: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse("a number is wanted", path=path)
    if not math.isfinite(value) or abs(value) > _LARGEST:
        refuse(f"the number {value!r}", hint=f"exact up to {_LARGEST}", path=path)
    if value == int(value):
        return int(value)
    _, digits, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    if max(len(digits), -exponent) > _MOST_DIGITS:
        refuse(f"the number {value!r}", hint=f"at most {_MOST_DIGITS} digits", path=path)
    return value


def _read_numbers(node: dict[str, Any], found: dict[str, Any], path: str, *, is_draft_4: bool) -> None:
    for name, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        strict = node.get(exclusive)
        is_flag = is_draft_4 and isinstance(strict, bool)
        if name in node:
            found[exclusive if is_flag and strict else name] = _number(node[name], child(path, name))
        if exclusive in node and not is_flag:
            found[exclusive] = _number(strict, child(path, exclusive))
    if "multipleOf" in node:
        found["multipleOf"] = _multiple(node["multipleOf"], child(path, "multipleOf"))
        if not _has_multiple(found):
            refuse(f"no multiple of {node['multipleOf']} lies within the bounds", path=path)


def _multiple(value: object, path: str) -> int | float:
    step = _number(value, path)
    if step <= 0:
        refuse(f"multipleOf {step}", hint="above 0", path=path)
    # As llguidance turns a double into digits and a power of ten; where rounding makes that another number, refuse.
    scaled, exponent = float(step), 0
    while scaled != int(scaled) and exponent < 20:
        scaled, exponent = scaled * 10, exponent + 1
    if scaled >= _UINT32 or Fraction(Decimal(repr(step))) != Fraction(int(scaled), 10**exponent):
        refuse(f"multipleOf {step}", hint="a number of few digits, below 2^32 without its point", path=path)
    return step


def _has_multiple(found: dict[str, Any]) -> bool:
    """Whether a multiple lies within the bounds of the same schema (for one that takes only numbers)."""
    kinds = found.get("type")
    if kinds not in ("integer", "number"):
        return True
    step = Fraction(Decimal(repr(found["multipleOf"])))
    if kinds == "integer":
        step *= step.denominator
    low = max((Fraction(found[name]) for name in ("minimum", "exclusiveMinimum") if name in found), default=None)
    high = min((Fraction(found[name]) for name in ("maximum", "exclusiveMaximum") if name in found), default=None)
    if low is None or high is None:
        return True
    first = math.ceil(low / step) * step
    if first == found.get("exclusiveMinimum"):
        first += step
    return first <= high and first != found.get("exclusiveMaximum")


def _read_format(node: dict[str, Any], found: dict[str, Any], path: str) -> None:
    at = child(path, "format")
    name = _text(node["format"], at)
    kinds = found.get("type", list(TYPES))
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    if name in formats.INTEGER_BOUNDS and kinds <= {"integer", "null"}:
        low, high = formats.INTEGER_BOUNDS[name]
        found["minimum"] = max(low, found.get("minimum", low))
        found["maximum"] = min(high, found.get("maximum", high))
    elif name in formats.NUMBER_FORMATS and kinds <= {"number", "integer", "null"}:
        return
    elif "string" not in kinds:
        refuse(f"the format {name!r} of what is no text", path=at, keyword="format")
    elif name in formats.PATTERNS:
        if "pattern" in found:
            found.setdefault("allOf", []).append({"pattern": formats.PATTERNS[name]})
        else:
            found["pattern"] = formats.PATTERNS[name]
    elif name in formats.NATIVE_FORMATS:
        found["format"] = name
        if name in formats.MAX_LENGTHS:
            found["maxLength"] = min(formats.MAX_LENGTHS[name], found.get("maxLength", MAX_LENGTH))
    else:
        known = ", ".join(sorted(formats.NATIVE_FORMATS | set(formats.PATTERNS)))
        refuse(f"the format {name!r} cannot be enforced", hint=f"known are {known}", path=at, keyword="format")


def member_name(keyword: str, name: str, path: str) -> str:
    """A property's name, or a pattern of names rewritten."""
    if keyword == "patternProperties":
        return to_rust(name, path)
    if any(char < " " or char == "\x7f" for char in name):
        refuse("a property's name with a control character", path=path)
    return name


def check_counts(node: dict[str, Any], found: dict[str, Any], path: str) -> None:
    """Read `required` and the bounds on the number of properties.

    Nothing keeps an answer from giving one additional property twice, so a lower bound holds only where all but one of
    the properties it needs are required by name.
    """
    required = node.get("required", [])
    at = child(path, "required")
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        refuse("required is a list of names", path=at)
    within(len(required), MAX_PROPERTIES, "too many required properties", path=at)
    within(len(found.get("properties", ())), MAX_PROPERTIES, "too many properties", path=path)
    if required:
        found["required"] = [member_name("required", name, at) for name in dict.fromkeys(required)]
    for name in ("minProperties", "maxProperties"):
        _count(node, found, name, MAX_PROPERTIES, path)
    least = found.get("minProperties", 0)
    num_required = len(found.get("required", ()))
    if least <= num_required:
        found.pop("minProperties", None)
        return
    is_open = found.get("additionalProperties") is not False or bool(found.get("patternProperties"))
    if is_open and least > num_required + 1:
        hint = "name the properties and require them"
        refuse(f"minProperties {least}", hint=hint, path=child(path, "minProperties"), keyword="minProperties")
