"""Reads what a person types: with history and editing on a terminal, line by line elsewhere.

A line that begins with three quotes goes on until three quotes end it. Imports prompt_toolkit only when it is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from localllm.cli.interrupt import interrupting
from localllm.errors import LocalLLMError

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

PROMPT = ">>> "
CONTINUED = "... "
FENCE = '"""'


class LineInput(Protocol):
    """Where the next message comes from."""

    async def read(self, default: str = "") -> str:
        """The next message, with `default` typed in already; EOFError at the end, KeyboardInterrupt on Ctrl-C."""
        ...


def unclosed(typed: str) -> bool:
    """Whether a fenced message still waits for its closing quotes."""
    body = typed.strip()
    return body.startswith(FENCE) and not (len(body) >= 2 * len(FENCE) and body.endswith(FENCE))


def unfenced(typed: str) -> str:
    """The message without its fence."""
    body = typed.strip()
    if body.startswith(FENCE) and not unclosed(typed):
        return body[len(FENCE) : -len(FENCE)].strip("\n")
    return typed


class PlainInput:
    """One line at a time from standard input, for terminals that cannot move the cursor."""

    async def read(self, default: str = "") -> str:
        """Read a message. `default` cannot be typed in here; an empty line sends it."""
        with interrupting():
            typed = input(PROMPT)
            while unclosed(typed):
                typed += "\n" + input(CONTINUED)
        return unfenced(typed) or default


class TerminalInput:
    """Line editing with history (kept in `history_file`, private to its owner) and completion of slash commands."""

    def __init__(self, history_file: Path, words: Sequence[str]) -> None:
        self._session = _session(history_file, words)

    async def read(self, default: str = "") -> str:
        """Read a message; Enter sends, Alt-Enter begins a new line."""
        return unfenced(await self._session.prompt_async(PROMPT, default=default))


def line_input(history_file: Path, words: Sequence[str]) -> LineInput:
    """The best reader this terminal can have."""
    plain = os.environ.get("TERM") == "dumb" or not (sys.stdin.isatty() and sys.stdout.isatty())
    return PlainInput() if plain else TerminalInput(history_file, words)


def _session(history_file: Path, words: Sequence[str]) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory

    _make_private(history_file)
    return PromptSession(
        history=FileHistory(str(history_file)),
        completer=WordCompleter(list(words), sentence=True),
        complete_while_typing=False,
        multiline=True,
        prompt_continuation=CONTINUED,
        key_bindings=_bindings(),
        enable_open_in_editor=True,
    )


def _bindings() -> Any:
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.key_binding.key_processor import KeyPressEvent

    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if unclosed(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-c")
    def _(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    return bindings


def _make_private(file: Path) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        os.chmod(file, 0o600)
    except OSError as exc:
        raise LocalLLMError(f"the history {file} cannot be written: {exc.strerror}") from exc
