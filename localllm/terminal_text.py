"""Text for people: what a terminal may be sent, and how sizes, counts and ages are written. Pure; prints nothing."""

from __future__ import annotations

import datetime
import unicodedata

# A terminal obeys control characters (C0, DEL, C1); text from a model or a file may not give orders. Bidirectional
# overrides make a name look like another one; in running text of a right-to-left language they have their place.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_STREAM = _CONTROLS | {0x0A: "\n", 0x09: "\t", 0x0D: ""}
_LINE = _CONTROLS | {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def safe_stream(text: str) -> str:
    """Text fit for a terminal: line ends and tabs stay, every other control character is shown as `\\x1b`."""
    return text if text.isascii() and text.isprintable() else text.translate(_STREAM)


def safe_line(text: str) -> str:
    """The same for one line, such as a name: line ends and tabs are shown too."""
    return text if text.isascii() and text.isprintable() else text.translate(_LINE)


def size(num_bytes: float) -> str:
    """Bytes in decimal units, as disks and downloads are sold: `98.4 MB`."""
    value = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def count(number: int | None) -> str:
    """A parameter count: `135M`, `8.0B`; nothing where it is unknown."""
    if number is None:
        return ""
    value = float(number)
    for unit in ("", "K", "M", "B"):
        if abs(value) < 999.5:
            return f"{value:.0f}{unit}" if value >= 99.5 or not unit else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f}T"


def age(iso: str, now: datetime.datetime) -> str:
    """How long ago an ISO 8601 time was: `3 days ago`; the text itself where it is no time."""
    try:
        then = datetime.datetime.fromisoformat(iso)
    except ValueError:
        return iso
    if then.tzinfo is None:
        then = then.replace(tzinfo=datetime.UTC)
    seconds = max(0, int((now - then).total_seconds()))
    if seconds < 60:
        return "just now"
    steps = (("year", 31_536_000), ("month", 2_592_000), ("day", 86_400), ("hour", 3_600), ("minute", 60))
    unit, length = next(step for step in steps if seconds >= step[1])
    number = seconds // length
    return f"{number} {unit}{'s' if number > 1 else ''} ago"


def width(text: str) -> int:
    """Columns that `text` takes on a terminal: wide East Asian characters and emoji take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_char_width(char) for char in text)


def cut(text: str, columns: int) -> str:
    """`text` in at most `columns` columns, with an ellipsis where something was left out."""
    if width(text) <= columns:
        return text
    taken, used = [], 0
    for char in text:
        used += _char_width(char)
        if used > columns - 1:
            break
        taken.append(char)
    return "".join(taken) + "…" if columns > 0 else ""


def _char_width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
