"""`<think>…</think>`: DeepSeek R1 and V3, Qwen 3, GLM 4.5, SmolLM 3, Kimi K2, MiniMax M2, Nemotron and many more."""

from __future__ import annotations

from localllm.text.parsers.tags import OutputParser, ReasoningFormat, TagParser

START = "<think>"
END = "</think>"


def _parser(starts_in_reasoning: bool) -> OutputParser:
    return TagParser(START, END, starts_in_reasoning=starts_in_reasoning, special=(START, END))


FORMAT = ReasoningFormat("think", ("think>",), START, END, _parser)
