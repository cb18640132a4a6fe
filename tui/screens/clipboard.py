"""Into the clipboard: by the terminal (OSC 52), and by the system's own tool where there is one beside it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys

from textual.app import App

_WITHIN_S = 3.0


async def copy(app: App[object], text: str) -> None:
    """Both ways: a terminal does not say whether it obeys, and a tool is of no use at the other end of an SSH line."""
    app.copy_to_clipboard(text)
    tool = local_tool()
    if tool is not None:
        await asyncio.to_thread(_give, tool, text)


def local_tool() -> list[str] | None:
    """The command that fills this machine's clipboard; None where there is none, or nobody sits before it."""
    if "SSH_CONNECTION" in os.environ:
        return None
    for needed, command in _tools():
        if (needed is None or os.environ.get(needed)) and shutil.which(command[0]):
            return command
    return None


def _tools() -> list[tuple[str | None, list[str]]]:
    if sys.platform == "darwin":
        return [(None, ["pbcopy"])]
    if sys.platform == "win32":
        return [(None, ["clip"])]
    return [
        ("WAYLAND_DISPLAY", ["wl-copy"]),
        ("DISPLAY", ["xclip", "-selection", "clipboard"]),
        ("DISPLAY", ["xsel", "--clipboard", "--input"]),
    ]


def _give(tool: list[str], text: str) -> None:
    # Such a tool may stay behind to serve the clipboard: its output must not keep anybody waiting.
    data = text.encode("utf-16-le" if tool == ["clip"] else "utf-8", "replace")
    try:
        subprocess.run(
            tool, input=data, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return  # the terminal was asked as well
