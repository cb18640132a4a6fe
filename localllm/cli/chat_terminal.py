"""The terminal of `localllm chat`: what was piped in is read, and the keyboard takes its place as standard input."""

from __future__ import annotations

import os
import sys

from localllm.errors import UsageError

MAX_PIPED_BYTES = 32 << 20
_WEB_DRIVER = "TEXTUAL_DRIVER"


def take_terminal() -> str:
    """Make sure of a keyboard and a screen; returns the text that was piped in. Raises UsageError without a terminal.

    A chat in a browser has neither: what drives it comes and goes through the standard streams.
    """
    if os.environ.get(_WEB_DRIVER):
        return ""
    if not _is_terminal(sys.__stderr__) or not _is_terminal(sys.__stdout__) or os.environ.get("TERM") == "dumb":
        raise UsageError("the chat needs a terminal", hint='localllm run MODEL "a question" answers without one')
    if _is_terminal(sys.__stdin__):
        return ""
    piped = _read_piped()
    _read_from_keyboard()
    return piped


def _is_terminal(stream: object) -> bool:
    try:
        return stream is not None and bool(stream.isatty())  # type: ignore[attr-defined]
    except ValueError:
        return False


def _read_piped() -> str:
    try:
        with os.fdopen(os.dup(0), "rb") as stream:
            data = stream.read(MAX_PIPED_BYTES + 1)
    except OSError:
        return ""  # it was closed
    if len(data) > MAX_PIPED_BYTES:
        raise UsageError(f"more than {MAX_PIPED_BYTES >> 20} MiB on standard input", hint="no context holds that")
    return data.decode("utf-8-sig", "replace")


def _read_from_keyboard() -> None:
    """Put the terminal's keyboard in the place of file descriptor 0. Raises UsageError where there is none."""
    try:
        keyboard = os.open("CONIN$" if sys.platform == "win32" else "/dev/tty", os.O_RDWR)
    except OSError as exc:
        raise UsageError("the chat needs a terminal to read keys from", hint="standard input is none") from exc
    os.dup2(keyboard, 0)
    os.close(keyboard)
    if sys.__stdin__ is None:  # it was closed when the program began
        vars(sys)["__stdin__"] = sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
