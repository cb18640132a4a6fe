"""The line below a turn: its figures, as measured; and where an answer did not end well, that, and the way on."""

from __future__ import annotations

from localllm_tui.history.values import Node, Stats
from localllm_tui.markdown.safe import safe
from localllm_tui.widgets.turn_head import act
from textual.content import Content
from textual.widgets import Static

_DOT = "  ·  "


def figures(stats: Stats) -> list[str]:
    """What is known of an answer, in words; what was not measured is not said."""
    parts: list[str] = []
    if stats.decode_s > 0 and stats.num_output_tokens > 1:
        # The first token ends the prompt's time; those after it took `decode_s`.
        parts.append(f"{(stats.num_output_tokens - 1) / stats.decode_s:.1f} tok/s")
    if stats.first_token_s is not None:
        parts.append(f"first token {stats.first_token_s:.2f} s")
    if stats.num_output_tokens:
        parts.append(f"{stats.num_output_tokens:,} tokens")
    if stats.num_cached_tokens:
        parts.append(f"{stats.num_cached_tokens:,} of {stats.num_prompt_tokens:,} cached")
    return parts


class TurnFoot(Static):
    """One line or none; an error may take more."""

    DEFAULT_CSS = """
    TurnFoot { height: auto; color: $foreground-muted; margin: 1 0 0 0; }
    TurnFoot.-empty { display: none; }
    """

    def __init__(self, node: Node) -> None:
        super().__init__(foot(node), markup=False)
        self._node = node
        self.set_class(not foot(node).plain, "-empty")

    def show(self, node: Node) -> None:
        """The turn as it is now."""
        self._node = node
        content = foot(node, self.content_size.width)
        self.set_class(not content.plain, "-empty")
        self.update(content)

    def on_resize(self) -> None:
        """Lines end where a figure does."""
        content = foot(self._node, self.content_size.width)
        if content.plain != str(self.content):
            self.update(content)


def foot(node: Node, columns: int = 0) -> Content:
    """What stands below a turn, its lines broken between what it says; 0 `columns`: in one line."""
    if node.role != "assistant":
        return Content(safe(node.error or ""))
    parts: list[Content] = []
    match node.state:
        case "stopped":
            parts += [Content("Stopped here"), act("continue", "continue", "underline")]
            parts += [act("regenerate", "regenerate", "underline")]
        case "failed":
            words = safe(node.error or "The answer failed")
            parts += [Content.styled(words, "$text-error"), act("regenerate", "regenerate", "underline")]
        case "streaming":
            return Content("" if node.content or node.reasoning or node.tool_calls else "…")
    shown = figures(node.stats) if node.stats is not None else []
    parts += [Content.styled(words, "$foreground-muted") for words in shown]
    line = _broken(parts, columns)
    if node.error and node.state in ("complete", "stopped"):  # the answer is there; that is how it came to end
        return Content.assemble((safe(node.error), "$text-warning"), "\n" if parts else "", line)
    return line


def _broken(parts: list[Content], columns: int) -> Content:
    """`parts` with dots between them, and a new line for one that would not fit whole."""
    pieces: list[str | Content | tuple[str, str]] = []
    taken = 0
    for part in parts:
        if pieces and columns and taken + len(_DOT) + part.cell_length > columns:
            pieces.append("\n")
            taken = 0
        elif pieces:
            pieces.append((_DOT, "$foreground-muted 60%"))
            taken += len(_DOT)
        pieces.append(part)
        taken += part.cell_length
    return Content.assemble(*pieces)
