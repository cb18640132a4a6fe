"""Wire messages and tools to the variables a chat template reads. Owns their shape; renders nothing.

The shape is the one Hugging Face templates are written for: OpenAI's chat format, tool arguments as objects.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, get_args

import msgspec

from localllm.api import Message, Role, ToolCall, ToolSpec
from localllm.errors import InvalidRequestError
from localllm.text.segments import trusted

# One of four fixed words, so it may be part of a control token: templates write '<|' + role + '|>'.
_ROLES: dict[str, str] = {role: trusted(role) for role in get_args(Role)}


class JsonText(dict[str, Any]):
    """A JSON object that prints as the text it came in: tool-call arguments, for templates of either taste."""

    __slots__ = ("source",)

    def __init__(self, values: dict[str, Any], source: str) -> None:
        super().__init__(values)
        self.source = source

    def __str__(self) -> str:
        return self.source

    def __add__(self, other: Any) -> str:
        return self.source + other if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any) -> str:
        return other + self.source if isinstance(other, str) else NotImplemented


def message_variables(message: Message, reasoning_names: Sequence[str], *, as_parts: bool = False) -> dict[str, Any]:
    """One message as a template sees it. `as_parts`: content as a list of one text part."""
    if message.role not in _ROLES:
        raise InvalidRequestError(f"a message has the role {message.role!r}", hint=f"roles are {', '.join(_ROLES)}")
    content: Any = [{"type": "text", "text": message.content}] if as_parts else message.content
    variables: dict[str, Any] = {"role": _ROLES[message.role], "content": content}
    if message.name is not None:
        variables["name"] = message.name
    if message.reasoning is not None:
        variables.update((name, message.reasoning) for name in reasoning_names)
    if message.tool_calls:
        variables["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        variables["tool_call_id"] = message.tool_call_id
    return variables


def tool_variables(tool: ToolSpec) -> dict[str, Any]:
    """One tool as a template sees it."""
    function = {"name": tool.name, "description": tool.description, "parameters": copied(tool.parameters)}
    return {"type": "function", "function": function}


def copied(value: Any) -> Any:
    """A JSON value with lists and objects of its own: templates may change what they are given."""
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    return [copied(part) for part in value] if isinstance(value, (list, tuple)) else value


def reasoning_names(source: str) -> list[str]:
    """Under which names a template looks for a message's reasoning."""
    others = [name for name in ("reasoning", "thinking") if re.search(rf"(?:\.|\[?['\"]){name}\b", source)]
    return ["reasoning_content", *others]


def merge_system(messages: Sequence[Message]) -> list[Message]:
    """The same conversation with each system message put before the text of the user message that follows it."""
    merged: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        if message.role == "system":
            waiting.append(message.content)
        elif message.role == "user" and waiting:
            merged.append(msgspec.structs.replace(message, content="\n\n".join([*waiting, message.content])))
            waiting = []
        else:
            merged.append(message)
    if waiting:
        merged.append(Message(role="user", content="\n\n".join(waiting)))
    return merged


def split_turns(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The leading system messages, and the turns after them: a user message with all that answers it."""
    num_leading = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    turns: list[list[Message]] = []
    for message in messages[num_leading:]:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return list(messages[:num_leading]), turns


def _tool_call(call: ToolCall) -> dict[str, Any]:
    try:
        values = json.loads(call.arguments)
    except (ValueError, RecursionError):
        values = None
    arguments = JsonText(values, call.arguments) if isinstance(values, dict) else call.arguments
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
