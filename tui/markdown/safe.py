"""Foreign text on its way to the screen: nothing that a terminal obeys, nothing that shows in an order not its own."""

from __future__ import annotations

from localllm.terminal_text import safe_stream

# Where code or a name is read, these make it look like other code. They are shown.
_ORDER = {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_BREAKS = {0x2028: "\n", 0x2029: "\n"}
_SHOWN = _ORDER | _BREAKS


def safe(text: str) -> str:
    """`text` fit to be drawn: line ends and tabs stay."""
    return safe_stream(text) if text.isascii() else safe_stream(text).translate(_SHOWN)
