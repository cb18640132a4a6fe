"""The looks of a text, in Textual's words: names of the theme's colours, so that a change of theme changes them."""

from __future__ import annotations

STRONG = "bold"
EM = "italic"
STRIKE = "strike"
CODE_SPAN = "$text-accent on $surface"
LINK = "underline"
MUTED = "$foreground-muted"
MARK = "$primary"
QUOTE_BAR = "$primary 60%"
RULE = "$foreground 25%"
TABLE_LINE = "$foreground 25%"
TABLE_HEAD = "bold"
MATH = "italic"
CODE = "on $surface"
CODE_HEAD = "$foreground-muted on $surface"
HEADINGS = (
    "bold underline $primary",
    "bold $primary",
    "bold $foreground",
    "italic bold $foreground",
    "italic $foreground",
    "italic $foreground-muted",
)


def both(first: str, second: str) -> str:
    """The two together; the second has the say."""
    return f"{first} {second}".strip() if first != second else first
