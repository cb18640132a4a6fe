"""closing: a stream that is closed at the end of a block, however that ends."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


def closing(stream: AsyncIterator[T]) -> contextlib.AbstractAsyncContextManager[AsyncIterator[T]]:
    """Use `stream` for the block. Closing one that has not ended aborts its request at once.

    Every stream of a Backend is an async generator, so it can be closed; its type does not say so.
    """
    return contextlib.aclosing(stream)  # type: ignore[type-var]
