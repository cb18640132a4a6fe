"""Text that a person wrote, as they wrote it: line ends and marks stay; only fenced code is drawn as code. Pure."""

from __future__ import annotations

from localllm_tui.markdown.fence import opening
from localllm_tui.markdown.parse import Reader
from localllm_tui.markdown.safe import safe
from localllm_tui.markdown.values import Block, Paragraph, Piece


def plain_blocks(text: str) -> list[Block]:
    """The blocks of `text`: paragraphs as they stand, and code."""
    blocks: list[Block] = []
    reader = Reader("")
    lines: list[str] = []
    rest = safe(text).expandtabs(4)
    while rest:
        line, end, after = rest.partition("\n")
        opened = opening(rest, reader.num_code) if line.startswith(("```", "~~~")) else None
        if opened is None:
            lines.append(line + end)
            rest = after
            continue
        _close(lines, blocks)
        fence, inside = opened
        left = fence.feed(inside)
        if left is None:
            fence.finish()
        blocks.append(reader.code(fence.info, f"{fence.text}\n"))
        rest = left or ""
    _close(lines, blocks)
    return blocks


def _close(lines: list[str], blocks: list[Block]) -> None:
    """A paragraph of what was gathered."""
    text = "".join(lines).strip("\n")
    lines.clear()
    if text:
        blocks.append(Paragraph((Piece(text),)))
