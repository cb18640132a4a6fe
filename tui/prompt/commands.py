"""Slash commands as typed: which one, and what stands behind it. Knows names and words only; runs nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple

from localllm.errors import UsageError

_NAME = re.compile(r"/([A-Za-z?][\w?-]*)(?:\s+|$)")


class CommandWords(NamedTuple):
    """A command as lists show it: `name` without its slash, what it takes, what it does. `hidden`: an alias."""

    name: str
    takes: str = ""
    help: str = ""
    hidden: bool = False


class Typed(NamedTuple):
    """A command that was typed, and everything behind its name."""

    name: str
    argument: str


def parse(text: str, commands: Iterable[CommandWords]) -> Typed | str:
    """The command that `text` is, else the text as it is to be sent: `//` at its start stands for one slash.

    Raises UsageError for a command that is not there, naming the nearest.
    """
    typed = text.strip()
    if typed.startswith("//"):
        return typed[1:]
    if not typed.startswith("/"):
        return text
    known = {command.name: command for command in commands}
    found = _NAME.match(typed)
    if found is not None and found[1].lower() in known:
        return Typed(found[1].lower(), typed[found.end() :].strip())
    name = typed.split(maxsplit=1)[0]
    near = difflib.get_close_matches(name[1:].lower(), known, n=1)
    hint = f"did you mean /{near[0]}?" if near else "a lone / lists the commands."
    raise UsageError(f"no command {name[:60]}", hint=f"{hint} // at the start sends it to the model as text")


def beginning(text: str, cursor: int) -> str | None:
    """What of a command's name stands before the cursor, where one is being typed; "" right after the slash."""
    found = re.match(r"/([\w?-]*)$", text[:cursor])
    return found[1] if found and not text.startswith("//") else None


def matching(begun: str, commands: Iterable[CommandWords]) -> tuple[CommandWords, ...]:
    """The commands that `begun` may become: first those that begin so, then those that hold its two letters or more."""
    begun = begun.lower()
    shown = [command for command in commands if not command.hidden]
    first = [command for command in shown if command.name.startswith(begun)]
    other = [command for command in shown if begun in command.name and command not in first]
    return (*first, *(other if len(begun) > 1 else ()))
