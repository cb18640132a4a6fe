"""Personas and snippets by name: a person's own and some that ship. Pure."""

from __future__ import annotations

from typing import NamedTuple

from localllm_tui.options import ChatSettings, Persona
from localllm_tui.prompt.placeholders import fill, parameters

BUILT_IN: dict[str, Persona] = {
    "concise": Persona("Answer in as few words as the question allows. No introduction, no summary, no offers."),
    "explain": Persona(
        "Explain to somebody who knows {level}. Begin with the idea in one sentence, then one example, then details.",
        {"level": "the basics of the subject"},
    ),
    "programmer": Persona(
        "You are a careful {language} programmer. Give code that runs as it stands, with its imports. Say what you "
        "assume. Where you are not sure of a function or a flag, say so instead of inventing one.",
        {"language": "Python"},
    ),
    "reviewer": Persona(
        "Review what you are given. List real faults first, worst first, each with its place and a mending. Then at "
        "most three matters of style. If there is no fault, say so in one line."
    ),
    "translator": Persona(
        "Translate everything you are given into {language}. Keep tone, markup and line ends. Give nothing else.",
        {"language": "English"},
    ),
    "editor": Persona(
        "Mend spelling, grammar and clumsy sentences of the text you are given, in its own language. Keep its voice "
        "and meaning. Give the mended text, then a list of what you changed and why."
    ),
    "tutor": Persona(
        "Teach {subject} by asking. Put one short question at a time, wait for the answer, say what is right in it, "
        "and go on from there. Never give the whole solution unless asked to.",
        {"subject": "the subject that is asked about"},
    ),
}


class Named(NamedTuple):
    """A text with a name, to be picked from a list. `defaults`: first answers for its parameters."""

    name: str
    text: str
    defaults: dict[str, str]
    model: str | None = None
    is_built_in: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """What it asks for."""
        return parameters(self.text)


def personas(settings: ChatSettings) -> tuple[Named, ...]:
    """A person's own by name, then those that ship; one of the same name takes the place of the latter."""
    own = [Named(name, one.system, one.parameters, one.model) for name, one in sorted(settings.personas.items())]
    shipped = [
        Named(name, one.system, one.parameters, is_built_in=True)
        for name, one in BUILT_IN.items()
        if name not in settings.personas
    ]
    return (*own, *shipped)


def snippets(settings: ChatSettings) -> tuple[Named, ...]:
    """A person's texts, by name."""
    return tuple(Named(name, text, {}) for name, text in sorted(settings.snippets.items()))


def find(name: str, among: tuple[Named, ...]) -> Named | None:
    """The one of that name, whatever its case; None where there is none."""
    return next((one for one in among if one.name.casefold() == name.strip().casefold()), None)


def filled(named: Named, values: dict[str, str]) -> str:
    """Its text with the parameters' values, or else their first answers."""
    return fill(named.text, {**named.defaults, **values})
