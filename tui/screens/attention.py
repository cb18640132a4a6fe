"""Calling a person who looks elsewhere: the bell, and the notification of terminals that have one (OSC 9)."""

from __future__ import annotations

from textual.app import App

from localllm.terminal_text import safe_line


def call(app: App[object], words: str) -> None:
    """Ring, and say why where the terminal can."""
    app.bell()
    driver = app._driver
    if driver is not None and not app.is_headless:
        driver.write(f"\x1b]9;localllm: {safe_line(words)}\x07")
        driver.flush()
