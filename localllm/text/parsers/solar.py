"""`<|think|>…<|end|>`, then a second message with the answer: Upstage Solar Open."""

from __future__ import annotations

from localllm.text.parsers.tags import OutputParser, ReasoningFormat, TagParser

START = "<|think|>"
END = "<|end|>"
DROPS = ("<|begin|>assistant", "<|content|>", END)


def _parser(starts_in_reasoning: bool) -> OutputParser:
    return TagParser(
        START,
        END,
        starts_in_reasoning=starts_in_reasoning,
        special=("<|begin|>", START, END, "<|content|>"),
        drops=DROPS,
    )


FORMAT = ReasoningFormat("solar", ("<|begin|>assistant<|think|>",), START, END, _parser)
