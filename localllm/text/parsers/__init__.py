"""Model output to answer and reasoning. One file per format, each a streaming parser that is linear in its input.

A parser sees text deltas and cuts them into pieces; it knows no tokens, sampling or wire types. Tool-call formats get
their files here too, and a third kind of piece.
"""

from __future__ import annotations

from localllm.text.parsers import (
    apriel,
    cohere,
    gemma,
    granite,
    harmony,
    hunyuan,
    minimax,
    mistral,
    seed,
    solar,
    think,
)
from localllm.text.parsers.tags import OutputParser, Piece, PlainParser, ReasoningFormat

__all__ = [
    "FORMATS",
    "OutputParser",
    "Piece",
    "ReasoningFormat",
    "format_named",
    "parser_for",
    "reasoning_format_in",
    "reasoning_format_of",
]

NONE = ReasoningFormat("none", (), "", "", lambda _: PlainParser())
# The first whose marks a template holds is its format, so the more particular ones stand first.
FORMATS: tuple[ReasoningFormat, ...] = (
    harmony.FORMAT,
    gemma.FORMAT,
    cohere.FORMAT,
    solar.FORMAT,
    apriel.FORMAT,
    mistral.FORMAT,
    seed.FORMAT,
    minimax.FORMAT,
    granite.FORMAT,
    hunyuan.FORMAT,
    think.FORMAT,
    NONE,
)


def reasoning_format_of(template_source: str) -> ReasoningFormat:
    """The format that a chat template is written for; "none" where it shows no reasoning."""
    return next(form for form in FORMATS if all(mark in template_source for mark in form.marks))


def reasoning_format_in(vocabulary: frozenset[str]) -> ReasoningFormat:
    """The format whose tags are special tokens of a vocabulary, for a template that does not mention them.

    The plainest wins: what is particular shows in a template only.
    """
    return next((form for form in reversed(FORMATS) if {form.start, form.end} <= vocabulary), NONE)


def parser_for(reasoning_format: str, *, starts_in_reasoning: bool = False) -> OutputParser:
    """A fresh parser for one answer. `starts_in_reasoning`: the prompt already opened the reasoning.

    Raises KeyError for a name that no format has.
    """
    return format_named(reasoning_format).parser(starts_in_reasoning)


def format_named(name: str) -> ReasoningFormat:
    """The format of that name. Raises KeyError for a name that no format has."""
    for form in FORMATS:
        if form.name == name:
            return form
    raise KeyError(name)
