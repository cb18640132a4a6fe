"""NDJSON: one JSON value a line. What an Encoder of such a stream has in common; the lines are a dialect's."""

from __future__ import annotations

from typing import Any

import msgspec

_encode = msgspec.json.encode


class NdjsonStream:
    """Base of encoders that write lines. There is no line that says nothing, so a quiet stream stays quiet: no ping."""

    media_type = "application/x-ndjson"
    ping = b""


def line(value: Any) -> bytes:
    """A value as a line."""
    return _encode(value) + b"\n"
