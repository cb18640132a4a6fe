"""Keys that terminals send and Textual does not tell apart: Alt+Enter, which would come as Enter and send."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, NamedTuple, cast


class _Key(NamedTuple):
    """What Textual's table of key sequences needs of a key."""

    value: str


def tell_alt_enter() -> None:
    """From now on Alt+Enter is "alt+enter" in every terminal; those with the newer key protocol say so themselves."""
    from textual import _ansi_sequences

    table = cast("MutableMapping[str, Any]", _ansi_sequences.ANSI_SEQUENCES_KEYS)
    table["\x1b\r"] = (_Key("alt+enter"),)
