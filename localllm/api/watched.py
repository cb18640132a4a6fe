"""The Watched protocol: what a daemon says of itself, besides what every Backend can do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol, runtime_checkable

from localllm.api.answers import Status


@runtime_checkable
class Watched(Protocol):
    """A Backend that is a daemon, so that others ask it too. What may be asked of it depends on one's key."""

    url: str

    def status(self) -> AsyncIterator[Status]:
        """What it does: at once, and whenever that changes; ends when it shuts down."""
        ...

    async def props(self) -> dict[str, Any]:
        """Its version, process, limits and default model."""
        ...

    async def log(self) -> list[str]:
        """The last lines it logged, oldest first. Raises DaemonError for a key that may not manage it."""
        ...
