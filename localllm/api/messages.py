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
    """A tool the model may call. `parameters` is a JSON Schema object; with `strict` the arguments must obey it."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool = False


class ToolChoice(Value, frozen=True):
    """Which tools an answer may call: any or none as the model likes (auto), none at all, or at least one (required).

    `names` narrows the choice to these tools; none named means all of the request's.
    """

    mode: Literal["auto", "none", "required"] = "auto"
    names: tuple[str, ...] = ()
