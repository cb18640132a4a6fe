"""The schemas of the schema-bound workload, and a check of an answer against them.

The check knows the keywords used here and refuses any other: an answer is never called valid unlooked.
"""

from __future__ import annotations

import json
import re
from typing import Any

Json = dict[str, Any]


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


PERSON = _object(
    name={"type": "string", "minLength": 2, "maxLength": 24},
    age={"type": "integer", "minimum": 18, "maximum": 99},
    role={"enum": ["engineer", "designer", "manager", "analyst"]},
    remote={"type": "boolean"},
    city={"enum": ["Berlin", "Lisbon", "Nairobi", "Osaka", "Toronto"]},
)
FORECAST = _object(
    city={"enum": ["Berlin", "Lisbon", "Nairobi", "Osaka", "Toronto"]},
    days={
        "type": "array",
        "minItems": 3,
        "maxItems": 3,
        "items": _object(
            day={"enum": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]},
            high={"type": "integer", "minimum": -20, "maximum": 45},
            sky={"enum": ["clear", "cloudy", "rain", "snow"]},
        ),
    },
)
TICKET = _object(
    title={"type": "string", "minLength": 5, "maxLength": 40},
    priority={"enum": ["low", "normal", "high", "urgent"]},
    labels={
        "type": "array",
        "minItems": 1,
        "maxItems": 3,
        "items": {"enum": ["bug", "docs", "speed", "security", "question"]},
    },
    estimate_hours={"type": "integer", "minimum": 1, "maximum": 80},
    assignee={"type": ["string", "null"], "maxLength": 16},
)
ORDER = _object(
    number={"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
    lines={
        "type": "array",
        "minItems": 2,
        "maxItems": 2,
        "items": _object(
            article={"enum": ["notebook", "pencil", "lamp", "chair"]},
            quantity={"type": "integer", "minimum": 1, "maximum": 9},
        ),
    },
    paid={"type": "boolean"},
)
SCHEMAS: dict[str, Json] = {"a person": PERSON, "a forecast": FORECAST, "a ticket": TICKET, "an order": ORDER}

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "null": type(None),
}
_KNOWN = {
    *("type", "enum", "properties", "required", "additionalProperties", "items", "minItems", "maxItems"),
    *("minimum", "maximum", "minLength", "maxLength", "pattern"),
}


def invalid(text: str, schema: Json) -> str | None:
    """What is wrong with an answer; None: it is JSON that the schema accepts."""
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"no JSON: {error}"
    return _wrong(value, schema, "answer")


def _wrong(value: Any, schema: Json, where: str) -> str | None:
    if unknown := set(schema) - _KNOWN:
        raise AssertionError(f"the check does not know {sorted(unknown)}")
    if "enum" in schema and value not in schema["enum"]:
        return f"{where} is {value!r}, none of {schema['enum']}"
    if "type" in schema:
        wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(_is_of(value, kind) for kind in wanted):
            return f"{where} is no {' or '.join(wanted)}"
    if isinstance(value, str):
        return _wrong_string(value, schema, where)
    if isinstance(value, int) and not isinstance(value, bool):
        if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            return f"{where} is {value}, out of range"
    elif isinstance(value, list):
        return _wrong_array(value, schema, where)
    elif isinstance(value, dict):
        return _wrong_object(value, schema, where)
    return None


def _is_of(value: Any, kind: str) -> bool:
    if kind == "integer" and isinstance(value, bool):
        return False
    return isinstance(value, _TYPES[kind])


def _wrong_string(value: str, schema: Json, where: str) -> str | None:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        return f"{where} has {len(value)} characters"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return f"{where} does not match {schema['pattern']}"
    return None


def _wrong_array(value: list[Any], schema: Json, where: str) -> str | None:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return f"{where} has {len(value)} items"
    found = (_wrong(item, schema.get("items", {}), f"{where}[{at}]") for at, item in enumerate(value))
    return next((wrong for wrong in found if wrong is not None), None)


def _wrong_object(value: Json, schema: Json, where: str) -> str | None:
    properties: Json = schema.get("properties", {})
    if missing := [name for name in schema.get("required", ()) if name not in value]:
        return f"{where} lacks {missing[0]}"
    if schema.get("additionalProperties") is False and (extra := set(value) - set(properties)):
        return f"{where} has {sorted(extra)[0]}, which the schema does not allow"
    found = (_wrong(value[name], properties[name], f"{where}.{name}") for name in properties if name in value)
    return next((wrong for wrong in found if wrong is not None), None)
