"""Gives the terminal to a person's editor for a while. Answers under way go on meanwhile; nothing is drawn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator

from localllm_tui.prompt import editor
from textual.app import App, SuspendNotSupported

from localllm.errors import LocalLLMError


async def edit_outside(app: App[object], text: str) -> str:
    """`text` after the editor ended. Raises LocalLLMError where there is none, it failed, or the terminal stays."""
    words = editor.command(os.environ)
    failed: LocalLLMError | None = None
    try:
        with _deaf(), app.suspend(), app.batch_update():
            try:
                text = await asyncio.to_thread(editor.edit, text, words)
            except LocalLLMError as exc:  # raised in here, it would leave the terminal given away
                failed = exc
    except SuspendNotSupported as exc:
        hint = "in a browser, or where input is no terminal, there is none"
        raise LocalLLMError("an editor needs a terminal of its own", hint=hint) from exc
    if failed is not None:
        raise failed
    return text


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl+C is the editor's while it has the terminal. A child does not inherit a handler that does nothing."""
    try:
        before = signal.signal(signal.SIGINT, lambda *_: None)
    except ValueError:  # not in the main thread, which has no terminal to give away
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)
