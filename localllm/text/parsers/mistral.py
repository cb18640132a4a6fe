"""`[THINK]…[/THINK]`: Mistral's Magistral and Ministral 3 Reasoning."""

from __future__ import annotations

from localllm.text.parsers.tags import OutputParser, ReasoningFormat, TagParser

START = "[THINK]"
END = "[/THINK]"


def _parser(starts_in_reasoning: bool) -> OutputParser:
    return TagParser(START, END, starts_in_reasoning=starts_in_reasoning, special=(START, END))


FORMAT = ReasoningFormat("mistral", (START,), START, END, _parser)
