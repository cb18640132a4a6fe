"""The end of a text that is still being written: what has no end yet gets one, so that nothing jumps. Pure.

Only what is shown while an answer comes passes here; the whole text is read as it is.
"""

from __future__ import annotations

import re

# A last line that may become anything: a mark of a list, a heading, a quote, a fence, a rule.
_UNDECIDED = re.compile(
    r"[ \t>]*(?:[-*+]+|\d{1,3}[.)]?|#{1,6}|=+|`{1,2}|~{1,2}|\||(?:- ?){2,}|(?:\* ?){2,})?[ \t]*$",
)
_MAX_UNDECIDED = 40
_FENCE = re.compile(r"^[ \t>]*(?:[-*+] +|\d{1,3}[.)] +)?(```|~~~)", re.MULTILINE)
_DELIMITER = re.compile(r"[ \t|:\-]*$")
_TICKS = re.compile(r"`+")
_MARKS = re.compile(r"\\.|\*{1,3}|~~", re.DOTALL)
_LINK = re.compile(r"\[[^\[\]\n]*\]\([^()\s]*$")


def calm(text: str) -> str:
    """`text` as it is best shown while more of it is to come."""
    if len(_FENCE.findall(text)) % 2:
        return text
    above, _, line = text.rpartition("\n")
    if line and len(line) <= _MAX_UNDECIDED and _UNDECIDED.match(line):
        text = above
    start = text.rfind("\n\n") + 2 if "\n\n" in text else 0
    last = text[start:]
    if last.lstrip(" \t").startswith("|"):
        return text[:start] + _table(last)
    return text[:start] + close(last)


def _table(text: str) -> str:
    """A table is one from its first row on."""
    rows = text.split("\n")
    if len(rows) <= 2 and _DELIMITER.match(rows[1] if len(rows) == 2 else ""):
        head = close(rows[0].rstrip())
        if not head.endswith("|"):
            head += " |"
        num_columns = len(re.findall(r"(?<!\\)\|", head)) - 1
        delimiter = (
            rows[1] if len(rows) == 2 and rows[1].count("|") - 1 == num_columns and "--|" in rows[1][-3:] else ""
        )
        return f"{head}\n{delimiter or '|' + '---|' * num_columns}" if num_columns > 0 else text
    rows[-1] = close(rows[-1]) if "|" in rows[-1] else rows[-1]
    return "\n".join(rows)


def close(text: str) -> str:
    """Running text with what is open in it closed: code, emphasis, a link."""
    body = text.rstrip()
    return _close(body) + text[len(body) :]


def _close(text: str) -> str:
    at = 0
    plain: list[str] = []
    while match := _TICKS.search(text, at):
        plain.append(text[at : match.start()])
        end = text.find(match.group(), match.end())
        if end < 0:
            inside = text[match.end() :]
            before = "".join(plain)
            return _emphasis(text[: match.start()], before) if not inside.strip() else text + match.group()
        plain.append("x")
        at = end + len(match.group())
    plain.append(text[at:])
    if _LINK.search(text):
        return text + ")"
    return _emphasis(text, "".join(plain))


def _emphasis(text: str, plain: str) -> str:
    """`plain` is `text` with something harmless in the place of code."""
    opened: list[str] = []
    for match in _MARKS.finditer(plain):
        mark = match.group()
        if mark[0] == "\\":
            continue
        before = plain[match.start() - 1] if match.start() else " "
        after = plain[match.end()] if match.end() < len(plain) else ""
        if not after and (before.isspace() or (opened and opened[-1] != mark)):
            text = text[: len(text) - len(mark)]
            continue
        if opened and opened[-1] == mark and not before.isspace():
            opened.pop()
        elif after and not after.isspace():
            opened.append(mark)
    return text.rstrip() + "".join(reversed(opened))
