"""`<|channel>thought … <channel|>`: Gemma 4."""

from __future__ import annotations

from localllm.text.parsers.tags import OutputParser, ReasoningFormat, TagParser

START = "<|channel>thought"
END = "<channel|>"


def _parser(starts_in_reasoning: bool) -> OutputParser:
    return TagParser(START, END, starts_in_reasoning=starts_in_reasoning, special=("<|channel>", "<channel|>"))


FORMAT = ReasoningFormat("gemma", (START, END), START, END, _parser)
