"""How long a model stays in memory, as Ollama's clients say it. Pure.

A number is seconds; a text is a duration in Go's notation ("5m", "1h30m", "300ms", "-1m"). Below zero is for ever.
"""

from __future__ import annotations

import math
import re

from localllm.errors import InvalidRequestError

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_MAX_CHARS = 64
FOR_EVER = -1.0
_LONGEST_S = 1e9  # thirty years; beyond, clocks and dates give out


def keep_alive_s(value: str | float | None) -> float | None:
    """Seconds, -1 for ever, None where nothing is said. Raises InvalidRequestError."""
    if value is None:
        return None
    seconds = _duration_s(value) if isinstance(value, str) else float(value)
    if math.isnan(seconds):
        raise _bad(str(value))
    return FOR_EVER if seconds < 0 or seconds > _LONGEST_S else seconds


def _duration_s(text: str) -> float:
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    if not rest or len(rest) > _MAX_CHARS:
        raise _bad(text)
    total, at = 0.0, 0
    while at < len(rest):
        part = _PART.match(rest, at)
        if part is None:
            raise _bad(text)
        total += float(part[1]) * _UNITS_S[part[2]]
        at = part.end()
    return sign * total


def _bad(text: str) -> InvalidRequestError:
    hint = 'give seconds, or a duration such as "5m"; below zero is for ever'
    return InvalidRequestError(f"keep_alive {text[:40]!r} is no duration", hint=hint, param="keep_alive")
