"""How JSON is spelled in answers: in one way for each character; on one line where the schema says what comes."""

from __future__ import annotations

from typing import Any

# Without \u there is one spelling of a name: two would let an answer give the same property twice, the second time with
# any value.
_ESCAPES = {"json_allowed_escapes": 'nrbtf\\"'}
# White space that is free costs tokens and hides what is forced.
_ONE_LINE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# Where the model makes up the names too, it does better in the layout it knows; but without end none is let go on.
_AS_IT_LIKES = {"whitespace_pattern": r"[ ]|\r?\n[ \t]{0,64}"}

_SAYS_WHAT_COMES = frozenset(
    {"$ref", "allOf", "anyOf", "const", "enum", "items", "patternProperties", "prefixItems", "properties", "required"}
)


def with_options(schema: dict[str, Any]) -> dict[str, Any]:
    """A rewritten schema with these rules."""
    layout = _AS_IT_LIKES if _SAYS_WHAT_COMES.isdisjoint(schema) else _ONE_LINE
    return {"x-guidance": {**_ESCAPES, **layout}, **schema}
