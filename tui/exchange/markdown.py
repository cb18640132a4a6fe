"""A conversation as Markdown: the branch that is open, as one reads it. Pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable

from localllm_tui.history.values import Conversation, Node

from localllm.terminal_text import safe_line, safe_stream


def to_markdown(conversation: Conversation, path: Iterable[Node]) -> str:
    """The branch, turn under turn. Control characters are shown: somebody may print the file on a terminal."""
    title = safe_line(conversation.title) or "Conversation"
    parts = [f"# {title}", " · ".join(filter(None, (safe_line(conversation.model), day(conversation.updated))))]
    if conversation.system:
        parts += ["## System prompt", safe_stream(conversation.system)]
    for node in path:
        parts += _turn(node)
    return "\n\n".join(part for part in parts if part.strip()) + "\n"


def speaker(node: Node) -> str:
    """Whose turn it is, for a heading."""
    match node.role:
        case "user":
            return "You"
        case "tool":
            return f"Tool {safe_line(node.name or '')}".rstrip()
        case "system":
            return "System"
    return safe_line(node.model or "") or "Answer"


def day(time: float) -> str:
    """A Unix time's day and minute, local; "" for none."""
    return f"{datetime.datetime.fromtimestamp(time):%Y-%m-%d %H:%M}" if time else ""


def state_words(node: Node) -> str:
    """What became of an answer that is not whole."""
    if node.error:
        return f"Failed: {safe_line(node.error)}"
    return {"stopped": "Stopped", "failed": "Failed"}.get(node.state, "")


def fenced(text: str, language: str = "") -> str:
    """Text between fences that nothing in it can close."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _turn(node: Node) -> list[str]:
    parts = [f"## {speaker(node)}"]
    for attachment in node.attachments:
        parts += [f"**{safe_line(attachment.name)}**", fenced(safe_stream(attachment.text))]
    if node.reasoning:
        quoted = "\n".join(f"> {line}".rstrip() for line in safe_stream(node.reasoning).strip().splitlines())
        parts += ["> *Thinking*\n>\n" + quoted]
    content = safe_stream(node.content).strip()
    parts.append(fenced(content) if node.role == "tool" and content else content)
    for call in node.tool_calls:
        parts += [f"Calls `{safe_line(call.name)}`", fenced(safe_stream(call.arguments), "json")]
    words = state_words(node)
    return [*parts, f"*{words}*"] if words else parts
