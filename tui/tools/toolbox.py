"""Toolbox: the tools of all servers of `mcp.json` as one set, what a person allowed of them, and calling one.

Servers live in `servers`, permissions in `permissions`; nothing here is shown.
"""

from __future__ import annotations

from pathlib import Path

from localllm_tui.tools.values import Extent, ServerStatus, ToolResult, ToolState

from localllm.api import ToolCall, ToolSpec


class Toolbox:
    """The tools that a conversation may use. All methods belong to one event loop; none of them blocks it."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file

    async def start(self) -> None:
        """Read `mcp.json` and start its servers in the background; never raises, `problem` and `status` say what failed."""

    async def close(self) -> None:
        """End all servers."""

    async def reload(self) -> None:
        """Read `mcp.json` again; servers whose entry is the same go on."""

    async def restart(self, server: str) -> None:
        """Start one server anew."""

    @property
    def problem(self) -> str | None:
        """What keeps all tools away (no file is no problem), in words."""
        return None

    def status(self) -> tuple[ServerStatus, ...]:
        """Every server, in the order of the file."""
        return ()

    def log(self, server: str) -> tuple[str, ...]:
        """The last lines that a server wrote to its stderr."""
        return ()

    def tools(self, conversation: int) -> tuple[ToolState, ...]:
        """Every tool there is now; conversation 0 stands for new ones."""
        return ()

    def specs(self, conversation: int) -> tuple[ToolSpec, ...]:
        """The tools that a request of this conversation carries."""
        return ()

    def switch(self, conversation: int, name: str, is_on: bool) -> None:
        """Offer a tool in this conversation, or do not; conversation 0: in all that say nothing else."""

    def needs_approval(self, conversation: int, name: str) -> bool:
        """Whether a person has to be asked before this tool runs."""
        return True

    def approve(self, conversation: int, name: str, extent: Extent) -> None:
        """A person allows a tool: for one call (nothing is kept), in this conversation, or always."""

    def revoke(self, conversation: int, name: str) -> None:
        """Ask again from now on."""

    async def call(self, call: ToolCall) -> ToolResult:
        """Run a tool; what goes wrong is a result, too. Cancelling cancels the call at its server."""
        return ToolResult(f"there is no tool named {call.name}", is_error=True)
