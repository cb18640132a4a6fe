"""Which families there are, and which one a chat template is written for."""

from __future__ import annotations

from collections.abc import Sequence

from localllm.api import ToolSpec
from localllm.text.parsers.calls import AnswerParser
from localllm.text.parsers.tags import ReasoningFormat
from localllm.text.tools import (
    deepseek,
    gemma,
    generic,
    harmony,
    hermes,
    invoke,
    kimi,
    lists,
    llama3,
    mistral,
    others,
    pythonic,
)
from localllm.text.tools.form import ToolFormat
from localllm.text.tools.harmony import HarmonyCallParser
from localllm.text.tools.parser import ReasoningAndCalls, ToolCallParser

GENERIC = generic.FORMAT
# The first whose marks a template holds is its format, so the more particular ones stand first.
FORMATS: tuple[ToolFormat, ...] = (
    harmony.FORMAT,
    gemma.FORMAT,
    kimi.FORMAT,
    invoke.MINIMAX,
    invoke.DEEPSEEK_V4,
    invoke.DEEPSEEK_V32,
    deepseek.V3,
    deepseek.V31,
    mistral.NAMED,
    mistral.LIST,
    lists.COMMAND,
    lists.COMMAND_R,
    lists.GRANITE,
    lists.NEMOTRON,
    lists.APRIEL,
    lists.FIREFUNCTION,
    pythonic.LFM,
    pythonic.LFM_LISTED,
    pythonic.OLMO,
    others.APERTUS,
    others.GIGACHAT,
    others.SOLAR,
    hermes.SEED,
    hermes.GLM,
    hermes.CODER,
    hermes.FORMAT,
    others.FUNCTIONARY,
    llama3.FORMAT,
    llama3.LLAMA4,
    GENERIC,
)


def tool_format_of(template_source: str) -> ToolFormat:
    """The format that a chat template is written for; the generic one where it shows none."""
    return next(form for form in FORMATS if all(mark in template_source for mark in form.marks))


def tool_format_named(name: str) -> ToolFormat:
    """The format of that name. Raises KeyError."""
    for form in FORMATS:
        if form.name == name:
            return form
    raise KeyError(name)


def parser_of(
    reasoning: ReasoningFormat,
    starts_in_reasoning: bool,
    form: ToolFormat | None,
    tools: Sequence[ToolSpec],
    eager: bool = False,
) -> AnswerParser:
    """A fresh parser for one answer; without `form` it finds no calls. `eager`: a grammar sees to the calls' form."""
    if form is None:
        return reasoning.parser(starts_in_reasoning)
    if form.is_harmony:
        return HarmonyCallParser(starts_in_reasoning, tools, eager=eager)
    return ReasoningAndCalls(reasoning.parser(starts_in_reasoning), ToolCallParser(form, tools, eager=eager))
