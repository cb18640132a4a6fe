"""Reasoning in the open, closed by `[BEGIN FINAL RESPONSE]`: ServiceNow Apriel."""

from __future__ import annotations

from localllm.text.parsers.tags import OutputParser, ReasoningFormat, TagParser

START = "Here are my reasoning steps:"
END = "[BEGIN FINAL RESPONSE]"
DROPS = ("[END FINAL RESPONSE]",)


def _parser(starts_in_reasoning: bool) -> OutputParser:
    return TagParser(START, END, starts_in_reasoning=starts_in_reasoning, special=(END, *DROPS), drops=DROPS)


FORMAT = ReasoningFormat("apriel", (END,), START, END, _parser)
