"""Search over titles and turns: what was typed becomes a query, rows become hits with snippets. Changes nothing.

Titles come first, then turns, the newest before older ones; a conversation takes at most three places.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata

from localllm_tui.history import index, rows
from localllm_tui.history.values import Hit

_PER_CONVERSATION = 3
_BEFORE, _AFTER = 40, 160
_TERM = re.compile(r'"([^"]*)"|(\S+)')
_WORD = re.compile(r"[^\W_]", re.UNICODE)
_FOUND = """SELECT n.id, n.conversation, n.created FROM words w JOIN nodes n ON n.id = w.rowid
    JOIN conversations c ON c.id = n.conversation
    WHERE words MATCH ? AND w.rowid > 0 AND c.deleted IS NULL ORDER BY w.rowid DESC LIMIT ?"""
_TITLES = """SELECT c.id FROM words w JOIN conversations c ON c.id = -w.rowid
    WHERE words MATCH ? AND w.rowid < 0 AND c.deleted IS NULL ORDER BY w.rowid LIMIT ?"""


def terms(typed: str) -> list[tuple[str, bool]]:
    """What to look for, in order, and whether the word may go on. Text in double quotes is one term as it stands."""
    found = []
    for exact, loose in _TERM.findall(typed):
        term = (exact or loose).replace('"', " ").replace("\0", " ").strip()
        if _WORD.search(term):
            found.append((term, not exact))
    return found


def query(typed: str) -> str | None:
    """A query for FTS5 that any text makes a legal one; None where there is nothing to look for."""
    return " AND ".join(f'"{index.spaced(term)}"' + ("*" if is_open else "") for term, is_open in terms(typed)) or None


def search(connection: sqlite3.Connection, typed: str, limit: int) -> tuple[Hit, ...]:
    """Up to `limit` hits."""
    match = query(typed)
    if match is None:
        return ()
    pattern = _pattern(typed)
    places: list[tuple[int, int | None]] = [
        (row["id"], None) for row in connection.execute(_TITLES, (match, max(1, limit // 3)))
    ]
    found = connection.execute(_FOUND, (match, limit * 8)).fetchall()
    taken: dict[int, int] = {}
    for row in sorted(found, key=lambda row: (-row["created"], -row["id"])):
        conversation = row["conversation"]
        taken[conversation] = taken.get(conversation, 0) + 1
        if taken[conversation] <= _PER_CONVERSATION:
            places.append((conversation, row["id"]))
    return tuple(_hit(connection, pattern, *place) for place in places[:limit])


def _hit(connection: sqlite3.Connection, pattern: re.Pattern[str], conversation: int, node: int | None) -> Hit:
    row = connection.execute(f"SELECT {rows.CONVERSATION} FROM conversations WHERE id = ?", (conversation,)).fetchone()
    found = rows.conversation(row)
    if node is None:
        return Hit(found, None, snippet(found.title, pattern))
    texts = connection.execute("SELECT content, reasoning, attachments, tool_calls FROM nodes WHERE id = ?", (node,))
    return Hit(found, node, snippet(index.joined(*texts.fetchone()), pattern))


def _pattern(typed: str) -> re.Pattern[str]:
    """What of a folded text is marked: where words begin as a term does."""
    parts = []
    for term, is_open in terms(typed):
        words = [re.escape(word) for word in re.findall(r"[^\W_]+", _folded(term)[0])]
        is_spaced = index.spaced(term) == term
        begin = r"(?<![^\W_])" if is_spaced else ""
        end = "" if not is_spaced else r"[^\W_]*" if is_open else r"(?![^\W_])"
        parts.append(begin + r"[\W_]+".join(words) + end)
    return re.compile("|".join(parts))


def _folded(text: str) -> tuple[str, list[int] | None]:
    """Lower case without accents, and where each of its characters stands in `text` (None: at the same place)."""
    if text.isascii():
        return text.lower(), None
    folded: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text):
        for piece in unicodedata.normalize("NFKD", char).casefold():
            if not unicodedata.combining(piece):
                folded.append(piece)
                places.append(place)
    return "".join(folded), [*places, len(text)]


def snippet(text: str, pattern: re.Pattern[str]) -> tuple[tuple[str, bool], ...]:
    """A line of `text` around the first place that is found, in pieces, each with whether it is what was found."""
    folded, places = _folded(text)
    first = pattern.search(folded)

    def at(place: int) -> int:
        return place if places is None else places[place]

    start = _word_start(text, max(0, at(first.start()) - _BEFORE) if first else 0)
    stop = min(len(text), (at(first.end()) if first else start) + _AFTER)
    pieces: list[tuple[str, bool]] = [("…", False)] if start else []
    done = start
    for match in pattern.finditer(folded, first.start()) if first else ():
        begin, end = at(match.start()), at(match.end())
        if end > stop:
            break
        pieces += [(text[done:begin], False), (text[begin:end], True)]
        done = end
    pieces += [(text[done:stop], False), ("…" if stop < len(text) else "", False)]
    return tuple((" ".join(_edges(piece)), is_found) for piece, is_found in pieces if piece)


def _word_start(text: str, place: int) -> int:
    """The next beginning of a word, if it is near."""
    if place == 0:
        return 0
    space = re.compile(r"\s").search(text, place, place + 20)
    return space.end() if space else place


def _edges(piece: str) -> list[str]:
    """The words of a piece; "" at an end keeps the space there."""
    words = piece.split()
    if not words:
        return ["", ""]
    return [""] * piece[0].isspace() + words + [""] * piece[-1].isspace()
