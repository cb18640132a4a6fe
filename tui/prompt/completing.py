"""What stands before the cursor that could be completed, and with what, as far as no disk is needed. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from localllm_tui.prompt import commands as slash
from localllm_tui.prompt import mentions
from localllm_tui.prompt.commands import CommandWords
from localllm_tui.prompt.listing import PathChoice

MAX_SHOWN = 30


class Completion(NamedTuple):
    """One way to go on: `text` takes the place of what is between `start` and `end`.

    `goes_on`: more is to be completed behind it (a folder). `is_whole`: with it, the line is ready to be sent.
    """

    start: int
    end: int
    text: str
    label: str
    note: str = ""
    goes_on: bool = False
    is_whole: bool = False


def of_command(text: str, cursor: int, commands: Iterable[CommandWords]) -> tuple[Completion, ...]:
    """Commands that what is typed may become; none where no command's name is being typed."""
    begun = slash.beginning(text, cursor)
    if begun is None:
        return ()
    found = slash.matching(begun, commands)[:MAX_SHOWN]
    return tuple(
        Completion(0, cursor, f"/{one.name} ", f"/{one.name} {one.takes}".strip(), one.help, is_whole=not one.takes)
        for one in found
    )


def of_argument(text: str, cursor: int, name: str, words: Iterable[tuple[str, str]]) -> tuple[Completion, ...]:
    """Words (each with its meaning) that may stand first behind the command `name`."""
    head = f"/{name} "
    begun = text[len(head) : cursor]
    if not text.startswith(head) or cursor < len(head) or any(char.isspace() for char in begun):
        return ()
    found = [(word, note) for word, note in words if begun.lower() in word.lower()]
    found.sort(key=lambda pair: not pair[0].lower().startswith(begun.lower()))
    return tuple(Completion(len(head), cursor, word + " ", word, note) for word, note in found[:MAX_SHOWN])


def of_paths(mention: mentions.Mention, choices: Iterable[PathChoice]) -> tuple[Completion, ...]:
    """Paths that a mention may become."""
    found = []
    for choice in choices:
        spelled = mentions.spelled(choice.pattern, is_open=choice.is_folder) + " " * (not choice.is_folder)
        note = "all files in it" if choice.pattern.endswith("**") else ""
        found.append(Completion(mention.start, mention.end, spelled, choice.pattern, note, goes_on=choice.is_folder))
    return tuple(found)
