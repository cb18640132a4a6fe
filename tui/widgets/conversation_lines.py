"""Lines of the list of conversations, as pieces of text with the names of their styles. Pure; knows no cursor."""

from __future__ import annotations

import time

from localllm_tui.history.values import Conversation
from localllm_tui.look.names import shown_model
from localllm_tui.widgets.conversation_rows import Folder, age

from localllm.terminal_text import cut, safe_line, width

Pieces = list[tuple[str, str]]
_MENU = "⋯"


def folder_line(row: Folder, columns: int, *, is_plain: bool) -> Pieces:
    """A folder: whether it is open, its name, how many are in it."""
    count = str(row.num_conversations)
    name = cut(safe_line(row.name), max(0, columns - 5 - len(count)))
    gap = " " * max(1, columns - 4 - width(name) - len(count))
    state = ("-" if row.is_open else "+") if is_plain else ("▾" if row.is_open else "▸")
    return [(f" {state} ", "list--mark"), (name, "list--folder"), (gap + count, "list--note")]


def mark(*, is_current: bool, is_inside: bool, is_plain: bool) -> str:
    """What stands before both lines of a conversation: whether it is the open one, whether it is in a folder."""
    return (f"{'>' if is_plain else '▌'} " if is_current else "  ") + "  " * is_inside


def title_line(row: Conversation, mark: str, columns: int, *, is_current: bool, has_menu: bool) -> Pieces:
    """The first line of a conversation."""
    title = cut(safe_line(row.title) or "New conversation", max(0, columns - len(mark) - 1 - 2 * has_menu))
    name = "list--current" if is_current else "list--title" if row.title else "list--untitled"
    pieces = [(mark, "list--mark"), (title, name)]
    if has_menu:
        pieces.append((" " * max(1, columns - len(mark) - width(title) - 2) + _MENU, "list--note"))
    return pieces


def note_line(row: Conversation, mark: str, columns: int) -> Pieces:
    """The second one: model and age. What has no place is cut off the model, as half an age says nothing."""
    room = max(0, columns - len(mark) - 1)
    ago, model = age(row.updated, time.time()), shown_model(row.model)
    left = room - width(ago) - 3
    note = f"{cut(model, left)} · {ago}" if model and left >= 4 else cut(ago, room)
    return [(mark, "list--mark"), (note, "list--note")]
