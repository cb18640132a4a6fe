"""`<seed:think>…</seed:think>`: ByteDance Seed-OSS."""

from __future__ import annotations

from localllm.text.parsers.tags import OutputParser, ReasoningFormat, TagParser

START = "<seed:think>"
END = "</seed:think>"


def _parser(starts_in_reasoning: bool) -> OutputParser:
    return TagParser(START, END, starts_in_reasoning=starts_in_reasoning, special=(START, END))


FORMAT = ReasoningFormat("seed", (START,), START, END, _parser)
