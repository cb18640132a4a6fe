"""`<think>…</think><answer>…</answer>`: Tencent Hunyuan A13B."""

from __future__ import annotations

from localllm.text.parsers.tags import OutputParser, ReasoningFormat, TagParser

START = "<think>"
END = "</think>"
DROPS = ("<answer>", "</answer>")


def _parser(starts_in_reasoning: bool) -> OutputParser:
    return TagParser(START, END, starts_in_reasoning=starts_in_reasoning, special=(START, END, *DROPS), drops=DROPS)


FORMAT = ReasoningFormat("hunyuan", (START, "<answer>"), START, END, _parser)
