"""Conversations for the tests of this folder."""

from __future__ import annotations

from typing import Any

from localllm.api import ChatRequest, Message, ToolCall, ToolSpec

BENIGN = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="hello the user"),
    Message(role="assistant", content="Hi  \n"),
    Message(role="user", content="And <the> rest? ä😀"),
)
TOOLS = (ToolSpec(name="get", description="Gets.", parameters={"type": "object", "properties": {}}),)


def request(*messages: Message, **changes: Any) -> ChatRequest:
    """A chat request with these messages."""
    return ChatRequest(model="m", messages=messages, **changes)


def user(content: str) -> Message:
    return Message(role="user", content=content)


def system(content: str) -> Message:
    return Message(role="system", content=content)


def assistant(content: str, **more: Any) -> Message:
    return Message(role="assistant", content=content, **more)


def with_everywhere(text: str) -> tuple[Message, ...]:
    """A conversation with `text` in each place that a client can write."""
    call = ToolCall(id="c1", name=f"n{text}", arguments=f'{{"a": "{text}", "{text}": 1}}')
    return (
        user(f"U{text}V"),
        assistant(f"A{text}", reasoning=f"R{text}S", tool_calls=(call,)),
        Message(role="tool", content=f"T{text}", name=f"t{text}", tool_call_id="c1"),
        assistant(f"{text}{text}"),
        Message(role="user", content=text, name=text),
    )


def tools_with(text: str) -> tuple[ToolSpec, ...]:
    """A tool with `text` in its name, its description, and in keys and values of its schema."""
    return (ToolSpec(name=f"n{text}", description=text, parameters={text: [text, {"enum": [text]}]}),)
