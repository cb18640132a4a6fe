"""The slash commands of the REPL, as a table. Each changes the conversation or shows something of it."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from localllm.api import SamplingParams
from localllm.cli.answer import loaded_as, stats_lines
from localllm.cli.installed import matching
from localllm.cli.table import pairs
from localllm.errors import UsageError
from localllm.sampling_words import given, shown, warning, with_value

if TYPE_CHECKING:
    from localllm.cli.repl import Repl


class Command(NamedTuple):
    """One slash command: what it takes, what it does, and the function that does it."""

    takes: str
    help: str
    run: Callable[[Repl, str], Awaitable[None]]


async def run(repl: Repl, typed: str) -> None:
    """Run one typed command; raises UsageError for one that is not there, and keeps what was typed."""
    name, _, rest = typed.partition(" ")
    command = COMMANDS.get(_ALIASES.get(name, name))
    if command is None:
        repl.kept = " " + typed
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "/help lists them"
        raise UsageError(f"no command {name}", hint=f"{hint} A space before it sends it to the model as text")
    await command.run(repl, rest.strip())


def words() -> list[str]:
    """What can be completed after a slash."""
    return [*COMMANDS, *(f"/set {name}" for name in (*_SWITCHES, *SamplingParams.__struct_fields__))]


async def _help(repl: Repl, _rest: str) -> None:
    rows = [(f"{name} {command.takes}".strip(), command.help) for name, command in COMMANDS.items()]
    rows.append(('"""', "Begin a message of several lines; the same ends it. Alt-Enter begins a new line, too."))
    repl.output.lines(pairs(rows))


async def _set(repl: Repl, rest: str) -> None:
    name, _, value = rest.partition(" ")
    name, value = name.replace("-", "_"), value.strip()
    if not name:
        repl.output.lines(pairs(_settings(repl)))
    elif not value:
        found = dict(_settings(repl)).get(name, "default")
        repl.output.line(f"{name} {found}")
    elif name == "system":
        await _system(repl, value)
    elif name in _SWITCHES:
        setattr(repl.talk, name, _switch(name, value))
    else:
        repl.talk.sampling = with_value(repl.talk.sampling, name, value, others=(*_SWITCHES, "system"))
        if words := warning(repl.talk.sampling, name):
            repl.output.note(words)


def _settings(repl: Repl) -> list[tuple[str, str]]:
    talk = repl.talk
    of_talk = [(name, shown(getattr(talk, name))) for name in ("model", "system", *_SWITCHES)]
    return of_talk + given(talk.sampling)


_WORDS = {"on": True, "off": False, "default": None}
_SWITCHES: dict[str, dict[str, Any]] = {
    "think": _WORDS,
    "verbose": {"on": True, "off": False},
    "truncate": {"error": "error", "oldest": "oldest"},
}


def _switch(name: str, value: str) -> Any:
    words = _SWITCHES[name]
    if value not in words:
        raise UsageError(f"{name} cannot be {value!r}", hint="one of " + ", ".join(words))
    return words[value]


async def _system(repl: Repl, rest: str) -> None:
    if not rest:
        repl.output.line(repl.talk.system or "(no system prompt)")
    else:
        repl.talk.system = None if rest == "default" else rest


async def _clear(repl: Repl, _rest: str) -> None:
    repl.talk.clear()
    repl.output.note("the conversation is empty")


async def _save(repl: Repl, rest: str) -> None:
    path = _path(rest, "/save FILE")
    repl.talk.save(path)
    repl.output.note(f"saved to {path}")


async def _load(repl: Repl, rest: str) -> None:
    path = _path(rest, "/load FILE")
    repl.talk.load(path)
    repl.output.note(f"{len(repl.talk.messages)} messages loaded")


def _path(rest: str, usage: str) -> Path:
    if not rest:
        raise UsageError("which file?", hint=usage)
    return Path(rest.strip("\"'")).expanduser()


async def _stats(repl: Repl, _rest: str) -> None:
    if repl.talk.last is None:
        repl.output.line("no answer yet")
        return
    repl.output.lines(stats_lines(repl.talk.last, await loaded_as(repl.backend, repl.talk.model)))


async def _show(repl: Repl, _rest: str) -> None:
    models = {model.name: model for model in await repl.backend.list_models()}
    found = models.get(matching(models, repl.talk.model) or "")
    facts = [("model", repl.talk.model)]
    for source in (found, await loaded_as(repl.backend, repl.talk.model)):
        names = source.__struct_fields__ if source is not None else ()
        facts += [(n, _fact(v)) for n in names if n != "name" and (v := getattr(source, n)) not in (None, (), {})]
    repl.output.lines(pairs(list(dict(facts).items())))


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:.2f}" if isinstance(value, float) else str(value)


async def _model(repl: Repl, rest: str) -> None:
    if not rest:
        repl.output.line(repl.talk.model)
    elif await repl.load(rest):
        repl.talk.model = rest
        repl.output.note(f"{rest} answers from now on; the conversation goes on")


async def _retry(repl: Repl, _rest: str) -> None:
    prompt = repl.talk.take_back()
    if prompt is None:
        raise UsageError("nothing was asked yet")
    await repl.ask(prompt)


async def _bye(repl: Repl, _rest: str) -> None:
    repl.leaving = True


COMMANDS: dict[str, Command] = {
    "/help": Command("", "Show this list.", _help),
    "/set": Command("[NAME [VALUE]]", "Show or change sampling, system, think, verbose or truncate.", _set),
    "/system": Command("[TEXT]", "Show or change the system prompt.", _system),
    "/clear": Command("", "Forget the conversation; the system prompt stays.", _clear),
    "/save": Command("FILE", "Write the conversation to a file.", _save),
    "/load": Command("FILE", "Take a conversation from a file.", _load),
    "/model": Command("[NAME]", "Show or change the model.", _model),
    "/show": Command("", "Facts about the model.", _show),
    "/stats": Command("", "Tokens and speed of the last answer.", _stats),
    "/retry": Command("", "Ask the last question again.", _retry),
    "/bye": Command("", "Leave.", _bye),
}
_ALIASES = {"/?": "/help", "/exit": "/bye", "/quit": "/bye", "/q": "/bye"}
