"""Toolbox: the tools of all servers of `mcp.json` as one set, what a person allowed of them, and calling one.

A server's life is `servers`'s matter, permissions are kept by `permissions`; nothing here is shown.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from localllm_tui.tools.background import Background
from localllm_tui.tools.names import call_names
from localllm_tui.tools.permissions import Permissions
from localllm_tui.tools.values import Extent, ServerStatus, Tool, ToolResult, ToolState

from localllm import paths
from localllm.api import ToolCall, ToolSpec
from localllm.errors import ConfigError

if TYPE_CHECKING:
    from localllm_tui.tools.configuration import ServerConfig


class Toolbox:
    """The tools that a conversation may use. All methods belong to one event loop; none of them blocks it."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = paths.mcp_file() if file is None else file
        self._permissions = Permissions(self._file.with_name("mcp-permissions.json"))
        self._background = Background()
        self._servers: dict[str, Any] = {}
        self._seen: tuple[tuple[Tool, ...], ...] = ()
        self._tools: dict[str, Tool] = {}
        self._problem: str | None = None

    @property
    def file(self) -> Path:
        """Where `mcp.json` is, or would be."""
        return self._file

    @property
    def problem(self) -> str | None:
        """What keeps all tools away (no file is no problem), in words."""
        return self._problem

    async def start(self) -> None:
        """Read `mcp.json` and start its servers in the background; never raises: see `problem` and `status`."""
        from localllm_tui.tools.configuration import load_servers

        self._problem = None
        try:
            self._permissions.load()
        except ConfigError as exc:
            self._problem = exc.message
        try:
            configs = load_servers(self._file)
        except ConfigError as exc:
            self._problem = exc.message
            return
        await self._replace(configs)

    async def reload(self) -> None:
        """Read `mcp.json` again; servers whose entry is the same go on, failed ones are tried again."""
        await self.start()

    async def close(self) -> None:
        """End all servers."""
        servers, self._servers = self._servers, {}
        if servers:
            await self._background.run(_stop_all(list(servers.values())))
        await self._background.close()

    async def restart(self, server: str) -> None:
        """Start one server anew; returns when it is ready or has failed."""
        if (found := self._servers.get(server)) is not None:
            await self._background.run(_restart(found))

    async def settled(self) -> None:
        """Returns when no server is starting any more."""
        if self._servers:
            await self._background.run(_start_all(list(self._servers.values())))

    def status(self) -> tuple[ServerStatus, ...]:
        """Every server, in the order of the file."""
        return tuple(server.status for server in self._servers.values())

    def log(self, server: str) -> tuple[str, ...]:
        """The last lines that a server wrote to its stderr."""
        found = self._servers.get(server)
        return found.log() if found is not None else ()

    def tools(self, conversation: int) -> tuple[ToolState, ...]:
        """Every tool there is now; conversation 0 stands for new ones."""
        kept = self._permissions
        return tuple(
            ToolState(
                tool,
                kept.permission(conversation, tool),
                kept.is_on(conversation, tool),
                kept.is_changed(conversation, tool),
            )
            for tool in self._named().values()
        )

    def specs(self, conversation: int) -> tuple[ToolSpec, ...]:
        """The tools that a request of this conversation carries."""
        return tuple(state.tool.spec() for state in self.tools(conversation) if state.is_on)

    def switch(self, conversation: int, name: str, is_on: bool) -> None:
        """Offer a tool in this conversation, or do not; conversation 0: in all that say nothing else.

        Raises ConfigError where that cannot be kept; until the end it holds.
        """
        if (tool := self._named().get(name)) is not None:
            self._permissions.switch(conversation, tool, is_on)

    def needs_approval(self, conversation: int, name: str) -> bool:
        """Whether a person has to be asked before this tool runs; not where there is no such tool to run."""
        tool = self._named().get(name)
        return tool is not None and self._permissions.permission(conversation, tool) == "ask"

    def approve(self, conversation: int, name: str, extent: Extent) -> None:
        """A person allows a tool: for one call (nothing is kept), in this conversation, or always.

        Where "always" cannot be written down, `problem` says so; until the end it holds.
        """
        if (tool := self._named().get(name)) is None:
            return
        try:
            self._permissions.approve(conversation, tool, extent)
        except ConfigError as exc:
            self._problem = exc.message

    def revoke(self, conversation: int, name: str) -> None:
        """Ask again from now on. Raises ConfigError likewise."""
        if (tool := self._named().get(name)) is not None:
            self._permissions.revoke(conversation, tool)

    async def call(self, call: ToolCall) -> ToolResult:
        """Run a tool; what goes wrong is a result, too. Cancelling cancels the call at its server.

        Whether it may run is for the caller to ask first, by `needs_approval`.
        """
        tool = self._named().get(call.name)
        server = self._servers.get(tool.server) if tool is not None else None
        if tool is None or server is None:
            return ToolResult(f"there is no tool named {call.name}", is_error=True)
        try:
            arguments = msgspec.json.decode(call.arguments or "{}")
        except (msgspec.DecodeError, RecursionError) as exc:
            return ToolResult(f"the arguments are no JSON: {exc}", is_error=True)
        if not isinstance(arguments, dict):
            return ToolResult("the arguments are no JSON object", is_error=True)
        return await self._background.run(server.call(tool, arguments))

    async def _replace(self, configs: tuple[ServerConfig, ...]) -> None:
        if not configs and not self._servers:
            return
        # In a thread: it takes longer to import than a frame may last.
        make = await asyncio.to_thread(_server_class)
        old = self._servers
        kept = {config.name: old[config.name] for config in configs if _same(old.get(config.name), config)}
        gone = [server for name, server in old.items() if name not in kept]
        self._servers = {config.name: kept.get(config.name) or make(config) for config in configs}
        if gone:
            await self._background.run(_stop_all(gone))
        self._background.begin(_start_all(list(self._servers.values())))

    def _named(self) -> dict[str, Tool]:
        """All tools by the names that models call them by."""
        seen = tuple(server.tools for server in self._servers.values())
        if seen != self._seen:
            tools = [tool for some in seen for tool in some]
            names = call_names((tool.server, tool.own_name) for tool in tools)
            self._tools = {
                name: msgspec.structs.replace(tool, name=name) for name, tool in zip(names, tools, strict=True)
            }
            self._seen = seen
        return self._tools


def _server_class() -> Any:
    from localllm_tui.tools.servers import Server

    return Server


def _same(server: Any, config: ServerConfig) -> bool:
    return server is not None and server.config == config


async def _start_all(servers: list[Any]) -> None:
    await asyncio.gather(*(server.start() for server in servers))


async def _stop_all(servers: list[Any]) -> None:
    await asyncio.gather(*(server.stop() for server in servers))


async def _restart(server: Any) -> None:
    await server.stop()
    await server.start()
