"""AdapterSet: the adapters of one request with their scales. While somebody holds it, they stay loaded."""

from __future__ import annotations

from typing import Any


class AdapterSet:
    """What is applied to the weights for a request; empty for none.

    `key` tells it apart from others and means the same in every process: digests and scales. `handles` are opaque.
    """

    __slots__ = ("__weakref__", "handles", "key", "scales")

    def __init__(self, key: str = "", handles: tuple[Any, ...] = (), scales: tuple[float, ...] = ()) -> None:
        assert len(handles) == len(scales)
        self.key = key
        self.handles = handles
        self.scales = scales

    def __repr__(self) -> str:
        return f"AdapterSet({self.key!r})"


NO_ADAPTERS = AdapterSet()
