"""What the list of conversations is made of: headings, folders, conversations, in order. Pure; draws nothing."""

from __future__ import annotations

import datetime
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from localllm_tui.history.values import Conversation


@dataclass(frozen=True, slots=True)
class Heading:
    """Words above a group; nobody can choose them."""

    text: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder, closed or open."""

    name: str
    num_conversations: int
    is_open: bool


@dataclass(frozen=True, slots=True)
class SearchRow:
    """The offer to look for the filter's words in all texts."""

    text: str


Row = Heading | Folder | SearchRow | Conversation
Key = tuple[str, str | int]


@dataclass(frozen=True)
class Rows:
    """Rows, and the line each begins at. A heading that is not the first has an empty line above it, its own."""

    rows: Sequence[Row] = ()
    starts: Sequence[int] = field(default_factory=list)
    num_lines: int = 0

    def at(self, line: int) -> tuple[int, int] | None:
        """The row that a line belongs to, and which of its lines that is."""
        if not 0 <= line < self.num_lines:
            return None
        number = bisect_right(self.starts, line) - 1
        return number, line - self.starts[number]

    def height(self, number: int) -> int:
        """Lines of a row."""
        return (self.starts[number + 1] if number + 1 < len(self.starts) else self.num_lines) - self.starts[number]

    def find(self, key: Key | None) -> int | None:
        """Where the row with that key is."""
        return next((number for number, row in enumerate(self.rows) if key_of(row) == key), None) if key else None

    def next_choice(self, number: int, step: int) -> int | None:
        """The nearest row from `number` on in the direction of `step` that can be chosen."""
        while 0 <= number < len(self.rows):
            if not isinstance(self.rows[number], Heading):
                return number
            number += step
        return None


def key_of(row: Row) -> Key | None:
    """What stays the same of a row when the list is made anew; headings have none."""
    match row:
        case Conversation():
            return "conversation", row.id
        case Folder():
            return "folder", row.name
        case SearchRow():
            return "search", ""
    return None


def arrange(
    conversations: Sequence[Conversation],
    *,
    open_folders: Collection[str],
    words: str = "",
    now: datetime.datetime,
) -> Rows:
    """Pinned ones, folders, then the rest by age. With `words` only what has them all in its title, folder or model.

    `conversations` come newest first; `now` is local time.
    """
    if words.strip():
        found = [one for one in conversations if _matches(one, words.casefold().split())]
        return laid([*found, SearchRow(words.strip())])
    rows: list[Row] = []
    pinned = [one for one in conversations if one.is_pinned]
    rows += [Heading("Pinned"), *pinned] if pinned else []
    by_folder: dict[str, list[Conversation]] = {}
    loose: list[Conversation] = []
    for one in conversations:
        if not one.is_pinned:
            (by_folder.setdefault(one.folder, []) if one.folder else loose).append(one)
    if by_folder:
        rows.append(Heading("Folders"))
        for name in sorted(by_folder, key=str.casefold):
            inside = by_folder[name]
            is_open = name in open_folders
            rows.append(Folder(name, len(inside), is_open))
            rows += inside if is_open else []
    rows += _by_age(loose, now)
    return laid(rows)


def laid(rows: Sequence[Row]) -> Rows:
    """Rows with the lines they take."""
    starts, line = [], 0
    for number, row in enumerate(rows):
        starts.append(line)
        line += 2 if isinstance(row, Conversation) or (isinstance(row, Heading) and number) else 1
    return Rows(rows, starts, line)


def _matches(one: Conversation, words: list[str]) -> bool:
    text = f"{one.title} {one.folder} {one.model}".casefold()
    return all(word in text for word in words)


def _by_age(conversations: Iterable[Conversation], now: datetime.datetime) -> list[Row]:
    rows: list[Row] = []
    group, until = "", float("inf")
    for one in conversations:
        if one.updated < until:
            name, until = _group(one.updated, now)
            if name != group:
                group = name
                rows.append(Heading(name))
        rows.append(one)
    return rows


def _group(updated: float, now: datetime.datetime) -> tuple[str, float]:
    """The name of a time's group, and the earliest time in it."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for name, days in (("Today", 0), ("Yesterday", 1), ("Last 7 days", 7), ("Last 30 days", 30)):
        start = (today - datetime.timedelta(days=days)).timestamp()
        if updated >= start:
            return name, start
    then = datetime.datetime.fromtimestamp(updated)
    if then.year == now.year:
        return then.strftime("%B"), datetime.datetime(then.year, then.month, 1).timestamp()
    return str(then.year), datetime.datetime(then.year, 1, 1).timestamp()


def age(updated: float, now: float) -> str:
    """How long ago, in as few letters as say it: `now`, `5 min`, `3 h`, `2 d`, then the date."""
    seconds = max(0.0, now - updated)
    if seconds < 60:
        return "now"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 86_400:
        return f"{int(seconds / 3600)} h"
    if seconds < 7 * 86_400:
        return f"{int(seconds / 86_400)} d"
    then = datetime.datetime.fromtimestamp(updated)
    is_this_year = then.year == datetime.datetime.fromtimestamp(now).year
    return f"{then.day} {then:%b}" if is_this_year else f"{then:%Y-%m-%d}"
