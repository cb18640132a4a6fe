"""Conversations: turns, tools, tool calls."""

from __future__ import annotations

from typing import Any, Literal

from localllm.api.value import Value

Role = Literal["system", "user", "assistant", "tool"]


class ToolCall(Value, frozen=True):
    """A call the model asks for. `arguments` is JSON text."""

    id: str
    name: str
    arguments: str = "{}"


class Message(Value, frozen=True):
    """One turn. `reasoning` is the model's own thinking, kept apart from `content`."""

    role: Role
    content: str = ""
    name: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class ToolSpec(Value, frozen=True):
    """A tool the model may call. `parameters` is a JSON Schema object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
