"""`<|START_THINKING|>…<|END_THINKING|>`, then a wrapped answer: Cohere Command R7B, Command A."""

from __future__ import annotations

from localllm.text.parsers.tags import OutputParser, ReasoningFormat, TagParser

START = "<|START_THINKING|>"
END = "<|END_THINKING|>"
DROPS = ("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>")


def _parser(starts_in_reasoning: bool) -> OutputParser:
    return TagParser(START, END, starts_in_reasoning=starts_in_reasoning, special=(START, END, *DROPS), drops=DROPS)


FORMAT = ReasoningFormat("cohere", (START,), START, END, _parser)
