"""The line below a turn: its figures, as measured; and where an answer did not end well, that, and the way on."""

from __future__ import annotations

from localllm_tui.history.values import Node, Stats
from localllm_tui.markdown.safe import safe
from localllm_tui.widgets.turn_head import act
from textual.content import Content
from textual.widgets import Static


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
        self.set_class(not foot(node).plain, "-empty")

    def show(self, node: Node) -> None:
        """The turn as it is now."""
        content = foot(node)
        self.set_class(not content.plain, "-empty")
        self.update(content)


def foot(node: Node) -> Content:
    """What stands below a turn."""
    if node.role != "assistant":
        return Content(safe(node.error or ""))
    dot = ("  ·  ", "$foreground-muted 60%")
    parts: list[str | Content | tuple[str, str]] = []
    match node.state:
        case "stopped":
            parts += ["Stopped here", dot, act("continue", "continue", "underline"), dot]
            parts += [act("regenerate", "regenerate", "underline")]
        case "failed":
            words = safe(node.error or "The answer failed")
            parts += [(words, "$text-error"), dot, act("regenerate", "regenerate", "underline")]
        case "streaming":
            return Content("" if node.content or node.reasoning or node.tool_calls else "…")
    shown = figures(node.stats) if node.stats is not None else []
    for index, words in enumerate(shown):
        parts += [dot] if parts or index else []
        parts.append((words, "$foreground-muted"))
    if node.error and node.state in ("complete", "stopped"):  # the answer is there; that is how it came to end
        parts = [(safe(node.error), "$text-warning"), "\n" if parts else "", *parts]
    return Content.assemble(*parts)
