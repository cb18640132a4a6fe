"""Parameters in texts: `{name}` is asked for, `{{` and `}}` are braces; braces around anything else are left alone."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PIECE = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")
MAX_PARAMETERS = 20


def parameters(text: str) -> tuple[str, ...]:
    """The names that a text asks for, in their order, each once."""
    found = (match[1] for match in _PIECE.finditer(text) if match[1])
    return tuple(dict.fromkeys(found))[:MAX_PARAMETERS]


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with its parameters' values; a name without a value stays as it is. Values are not looked into."""

    def piece(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        return values.get(match[1], match[0])

    return _PIECE.sub(piece, text)


def literal(text: str) -> str:
    """A text that asks for nothing: what `fill` gives back as `text`."""
    return re.sub(r"\{(?=[A-Za-z_{])|\}(?=\})", lambda match: match[0] * 2, text)
