"""What a chat template may use up: text, nodes, digits, time. Owns the caps and the deadline; knows no template.

Nothing that a cap guards may run long in C: the deadline interrupts a thread between bytecodes only.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

MAX_SOURCE_CHARS = 512 * 1024
MAX_CHARS = 8 * 1024 * 1024
MAX_TOTAL_CHARS = 32 * MAX_CHARS
MAX_NODES = 500_000
MAX_INT_BITS = 8192
MAX_WIDTH = 1000
RENDER_LIMIT_S = 1.5
_INTERRUPT_S = 0.1
_INTERRUPTS = 4

T = TypeVar("T")


class LimitExceeded(Exception):
    """A template asked for more text, nodes or digits than a prompt can need."""


class DeadlineExceeded(BaseException):
    """Raised inside the rendering thread when its time is up. No Exception, so that nothing on the way swallows it."""


class Buffer(list[str]):
    """The pieces of a text under construction."""

    __slots__ = ("num_chars",)

    def __init__(self) -> None:
        super().__init__()
        self.num_chars = 0

    def append(self, piece: str) -> None:
        self.num_chars += len(piece)
        check_chars(self.num_chars)
        super().append(piece)

    def extend(self, pieces: Iterable[str]) -> None:
        for piece in pieces:
            self.append(piece)


class RunawayTemplate(BaseException):
    """A template could not be stopped; its thread still runs. The process should end itself."""


class _Spent(threading.local):
    """What the run in this thread has built so far."""

    num_chars = 0


_spent = _Spent()


def check_chars(num_chars: int) -> None:
    """Raise LimitExceeded where a text of `num_chars` is too long."""
    if num_chars > MAX_CHARS:
        raise LimitExceeded(f"a text of more than {MAX_CHARS} characters")


def spend_chars(num_chars: int) -> None:
    """Raise LimitExceeded where building a text of `num_chars` is too much, alone or with all built in this run."""
    check_chars(num_chars)
    _spent.num_chars += num_chars
    if _spent.num_chars > MAX_TOTAL_CHARS:
        raise LimitExceeded(f"more than {MAX_TOTAL_CHARS} characters built")


def measured(value: T) -> T:
    """`value` itself, once its nodes and characters are counted; shared parts count every time they occur.

    A list of lists that share their parts is small in memory and endless to print, compare or hash.
    Raises LimitExceeded.
    """
    num_nodes = num_chars = 0
    stack: list[Iterable[Any]] = [(value,)]
    while stack:
        for item in stack.pop():
            num_nodes += 1
            if isinstance(item, str):
                num_chars += len(item)
            elif isinstance(item, dict):
                stack.append(item)
                stack.append(item.values())
            elif isinstance(item, (list, tuple)):
                stack.append(item)
            if num_nodes > MAX_NODES:
                raise LimitExceeded(f"a value of more than {MAX_NODES} parts")
        check_chars(num_chars)
    return value


def check_int_bits(num_bits: float) -> None:
    """Raise LimitExceeded where an integer of `num_bits` would be too long."""
    if num_bits > MAX_INT_BITS:
        raise LimitExceeded(f"a number of more than {MAX_INT_BITS} bits")


def check_width(width: str | int | None) -> None:
    """Raise LimitExceeded for a padding that only wastes memory."""
    if width in (None, ""):
        return
    if width == "*" or len(str(width)) > 9 or int(width) > MAX_WIDTH:
        raise LimitExceeded(f"a width of more than {MAX_WIDTH}")


def run_limited(work: Callable[[], T], limit_s: float = RENDER_LIMIT_S) -> T:
    """What `work` returns or raises, run in a thread of its own and interrupted after `limit_s` of wall time.

    Raises DeadlineExceeded when it was stopped, RunawayTemplate when it did not stop.
    """
    returned: list[T] = []
    raised: list[BaseException] = []

    def body() -> None:
        _spent.num_chars = 0
        try:
            returned.append(work())
        except BaseException as exc:
            raised.append(exc)

    thread = threading.Thread(target=body, name="chat template", daemon=True)
    thread.start()
    thread.join(limit_s)
    for _ in range(_INTERRUPTS):
        if not thread.is_alive():
            break
        _interrupt(thread)
        thread.join(_INTERRUPT_S)
    if thread.is_alive():
        raise RunawayTemplate
    if returned:
        return returned[0]
    raise raised[0] if raised else DeadlineExceeded()


def _interrupt(thread: threading.Thread) -> None:
    set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
    set_async_exc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(DeadlineExceeded))
