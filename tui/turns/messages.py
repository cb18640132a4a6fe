"""What a branch of a conversation is to a model: its turns as messages. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
from localllm_tui.history.values import Attachment, Node

from localllm.api import Message
from localllm.terminal_text import safe_line

NOT_RUN = "The call was not run."


def messages_of(path: Iterable[Node], system: str = "") -> tuple[Message, ...]:
    """The messages of a branch, `system` first; a system turn of the branch's own, such as a summary, follows in it.

    Answers that came to nothing are left out; calls without a result get one that says so. Turns of a person that then
    follow each other become one, and so do system turns: many templates refuse two in a row.
    """
    messages = [_message(node) for node in path if not _is_empty(node)]
    if system:
        messages.insert(0, Message("system", system))
    return tuple(_joined(_with_results(messages)))


def with_attachments(text: str, attachments: Iterable[Attachment]) -> str:
    """A turn's text with its attachments before it, each under its name and between fences longer than any in it."""
    parts = [f"{safe_line(item.name)}:\n{fenced(item.text)}" for item in attachments]
    return "\n\n".join([*parts, text] if text.strip() else parts)


def fenced(text: str) -> str:
    """Text between fences that nothing in it can close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}{'' if text.endswith(chr(10)) else chr(10)}{fence}"


def _is_empty(node: Node) -> bool:
    return node.role == "assistant" and not node.content.strip() and not node.tool_calls


def _message(node: Node) -> Message:
    return Message(
        role=node.role,
        content=with_attachments(node.content, node.attachments) if node.attachments else node.content,
        name=node.name if node.role == "tool" else None,
        reasoning=node.reasoning or None,
        tool_calls=node.tool_calls,
        tool_call_id=node.tool_call_id,
    )


def _with_results(messages: list[Message]) -> list[Message]:
    """After each message with calls a result for every one of them, and no result without its call."""
    done: list[Message] = []
    open_calls: dict[str, str] = {}
    for message in messages:
        if message.role == "tool":
            if message.tool_call_id in open_calls:
                del open_calls[message.tool_call_id]
                done.append(message)
            continue
        done += _not_run(open_calls)
        open_calls = {call.id: call.name for call in message.tool_calls}
        done.append(message)
    return done + _not_run(open_calls)


def _not_run(calls: dict[str, str]) -> list[Message]:
    return [Message("tool", NOT_RUN, name=name, tool_call_id=call_id) for call_id, name in calls.items()]


def _joined(messages: list[Message]) -> list[Message]:
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role and message.role in ("user", "system"):
            content = f"{joined[-1].content}\n\n{message.content}"
            joined[-1] = msgspec.structs.replace(joined[-1], content=content)
        else:
            joined.append(message)
    return joined
