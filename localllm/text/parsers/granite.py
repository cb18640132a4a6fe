"""`<think>…</think><response>…</response>`: IBM Granite 3.3."""

from __future__ import annotations

from localllm.text.parsers.tags import OutputParser, ReasoningFormat, TagParser

START = "<think>"
END = "</think>"
DROPS = ("<response>", "</response>")


def _parser(starts_in_reasoning: bool) -> OutputParser:
    return TagParser(START, END, starts_in_reasoning=starts_in_reasoning, special=(START, END, *DROPS), drops=DROPS)


FORMAT = ReasoningFormat("granite", ("<think></think>", "<response></response>"), START, END, _parser)
