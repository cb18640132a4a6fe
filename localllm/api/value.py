"""The base of all wire types: frozen structs that travel as msgpack to the engine child and as JSON over HTTP."""

from __future__ import annotations

import msgspec


class Value(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all wire types."""
