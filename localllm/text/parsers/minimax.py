"""`<mm:think>…</mm:think>`: MiniMax M3."""

from __future__ import annotations

from localllm.text.parsers.tags import OutputParser, ReasoningFormat, TagParser

START = "<mm:think>"
END = "</mm:think>"


def _parser(starts_in_reasoning: bool) -> OutputParser:
    return TagParser(START, END, starts_in_reasoning=starts_in_reasoning, special=(START, END))


FORMAT = ReasoningFormat("minimax", (START,), START, END, _parser)
