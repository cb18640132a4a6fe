"""What is known of tools and their servers: values, as the toolbox gives them out."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from localllm.api import ToolSpec
from localllm.api.value import Value

Extent = Literal["once", "chat", "always"]
Permission = Literal["ask", "chat", "always"]
ServerState = Literal["disabled", "starting", "ready", "failed", "stopped"]


class Tool(Value, frozen=True):
    """A tool of a server. `name` is what a model calls it by; `own_name` what its server does.

    `fingerprint` is that of everything its server says about it: what was allowed for another one counts no longer.
    """

    name: str
    server: str
    own_name: str
    description: str = ""
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    fingerprint: str = ""
    notes: tuple[str, ...] = ()

    def spec(self) -> ToolSpec:
        """The tool as a request carries it."""
        return ToolSpec(self.name, self.description, self.parameters)


class ToolState(Value, frozen=True):
    """A tool, and what a person decided about it for one conversation. `is_changed`: it is not what was allowed."""

    tool: Tool
    permission: Permission = "ask"
    is_on: bool = True
    is_changed: bool = False


class ToolResult(Value, frozen=True):
    """What a call came to, in words for the model."""

    text: str
    is_error: bool = False


class ServerStatus(Value, frozen=True):
    """One server of `mcp.json`. `words` says how it is; `where` is its command or address."""

    name: str
    state: ServerState
    words: str
    where: str = ""
    num_tools: int = 0
    notes: tuple[str, ...] = ()
