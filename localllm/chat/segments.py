"""Rendered text with its provenance. Owns Segment; knows neither templates nor tokens."""

from __future__ import annotations

from typing import NamedTuple


class Segment(NamedTuple):
    """A piece of a rendered prompt. `trusted`: written by the template itself, so control tokens in it count."""

    text: str
    trusted: bool
