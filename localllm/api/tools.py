"""What a person may give instead of tools and a choice of them, read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from localllm.api.messages import ToolChoice, ToolSpec
from localllm.errors import InvalidRequestError

AnyTool = ToolSpec | Mapping[str, Any]


def as_tool(value: AnyTool) -> ToolSpec:
    """A tool as a ToolSpec, as a dict of its fields, or in OpenAI's form. Raises InvalidRequestError."""
    if isinstance(value, ToolSpec):
        return value
    inner = value.get("function", value)
    fields = {name: part for name, part in dict(inner).items() if part is not None}
    try:
        return msgspec.convert(fields, ToolSpec)
    except (msgspec.ValidationError, TypeError) as exc:
        hint = "a tool has a name, a description and parameters, which are a JSON Schema"
        raise InvalidRequestError(f"a tool that is none: {exc}", hint=hint, param="tools") from exc


def as_tool_choice(value: ToolChoice | str) -> ToolChoice:
    """What "auto", "none", "required", or the name of a tool that has to be called means."""
    if isinstance(value, ToolChoice):
        return value
    match value:
        case "auto":
            return ToolChoice()
        case "none":
            return ToolChoice("none")
        case "required":
            return ToolChoice("required")
    return ToolChoice("required", (value,))
