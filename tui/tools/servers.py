"""Server: one MCP server's life: started, its tools listed, called, started again when it is wanted after it ended.

Its coroutines run in the background's loop; what others read of it are whole values, put there at once.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import json
from typing import Any

import anyio
from localllm_tui.tools.configuration import ServerConfig
from localllm_tui.tools.results import bounded, text_of
from localllm_tui.tools.values import ServerState, ServerStatus, Tool, ToolResult

START_S = 30.0
MAX_LOG_LINES = 500
MAX_DESCRIPTION_CHARS = 8_000
MAX_SCHEMA_CHARS = 32_000

SDK_MISSING = "tools need the MCP SDK: install it with `pip install 'localllm[mcp]'`, then start the chat again"


class Server:
    """`tools` carries the server's own names; names for models are given by the toolbox, which sees all servers."""

    def __init__(self, config: ServerConfig, *, start_s: float = START_S) -> None:
        self.config = config
        self.tools: tuple[Tool, ...] = ()
        self.status = self._first_status()
        self._start_s = start_s
        self._log: collections.deque[str] = collections.deque(maxlen=MAX_LOG_LINES)
        self._client: Any = None
        self._scope: anyio.CancelScope | None = None
        self._life: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._changed = asyncio.Event()
        self._ended = ""

    def log(self) -> tuple[str, ...]:
        """The last lines it wrote to its stderr, from any thread."""
        return tuple(self._log.copy())

    async def start(self) -> None:
        """Begin its life; returns when it is ready or has failed. Where it lives already, nothing happens."""
        if self.config.problem is not None or self.config.is_disabled:
            return
        if self._life is not None and self._settled.is_set() and self._client is None:
            await asyncio.gather(self._life, return_exceptions=True)  # it is just ending
        if self._life is None or self._life.done():
            self._settled.clear()
            self._ended = ""
            self.status = self._status("starting", "starting")
            self._life = asyncio.create_task(self._live())
        await self._settled.wait()

    async def stop(self) -> None:
        """End it; returns when it has ended."""
        if self._scope is not None:
            self._scope.cancel()
        if self._life is not None:
            await asyncio.gather(self._life, return_exceptions=True)
            self._life = None

    async def call(self, tool: Tool, arguments: dict[str, Any]) -> ToolResult:
        """Run a tool; starts the server first where it has ended. What goes wrong is a result, too."""
        await self.start()
        now = next((one for one in self.tools if one.own_name == tool.own_name), None)
        if self._client is not None and now is None:
            return _failure(f"the tools' server {self.config.name} has no such tool any more")
        if now is not None and now.fingerprint != tool.fingerprint:
            return _failure("the tool's description has changed since it was offered; nothing was run")
        return await self._answer(tool, arguments)

    async def _answer(self, tool: Tool, arguments: dict[str, Any], *, is_again: bool = False) -> ToolResult:
        from localllm_tui.tools.session import SessionError, SessionLostError, answer_of, why

        timeout_s, client = self.config.call_timeout_s, self._client
        if client is None:
            return _failure(f"the tools' server {self.config.name} is not there: {self.status.words}")
        try:
            async with asyncio.timeout(timeout_s):
                answer = await answer_of(client, tool.own_name, arguments)
        except TimeoutError:
            return _failure(f"no answer within {timeout_s:g} s; the call was cancelled")
        except SessionLostError as exc:
            if is_again:
                return _failure(str(exc))
            await self.stop()
            await self.start()
            return await self._answer(tool, arguments, is_again=True)
        except SessionError as exc:
            # How it ended is known a moment after the connection is.
            await self._heard_why()
            gone = self._ended or (self.status.words if self._client is None else "")
            return _failure(f"the server went away: {gone}" if gone else bounded(str(exc), 4000))
        except Exception as exc:
            return _failure(f"the call failed: {bounded(why(exc), 4000)}")
        return text_of(answer)

    async def _heard_why(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                while not self._ended and self._client is not None:
                    await asyncio.sleep(0.01)

    async def _live(self) -> None:
        state: ServerState = "failed"
        words = "stopped"
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + self._start_s) as self._scope:
                words = await self._serve(self._scope)
            if self._scope.cancelled_caught and self._settled.is_set():
                state = "stopped"
            elif self._scope.cancelled_caught:
                words = f"it did not start within {self._start_s:g} s"
        except ImportError as exc:
            words = SDK_MISSING if (exc.name or "").split(".")[0] in ("mcp", "mcp_types", "httpx2") else str(exc)
        except Exception as exc:
            from localllm_tui.tools.session import why

            words = bounded(self._ended or why(exc), 1000)
        finally:
            self._client = self._scope = None
            self.status = self._status(state, words, self.status.notes)
            self._settled.set()

    async def _serve(self, scope: anyio.CancelScope) -> str:
        # In a thread: the import takes as long as some servers do.
        session = await asyncio.to_thread(_import_session)
        ended = asyncio.Event()

        def on_end(words: str) -> None:
            self._ended = words
            ended.set()

        async def on_change() -> None:
            self._changed.set()

        self._changed.clear()
        async with session.open_session(
            self.config, on_log=self._log.append, on_end=on_end, on_change=self._changed.set
        ) as client:
            await self._list(client)
            self._client = client
            scope.deadline = float("inf")
            self.status = self._status("ready", "ready", self.status.notes)
            self._settled.set()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.watch, client, on_change)
                tasks.start_soon(self._keep_listed, client)
                await ended.wait()
                self._client = None
                tasks.cancel_scope.cancel()
        return self._ended

    async def _keep_listed(self, client: Any) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                async with asyncio.timeout(self._start_s):
                    await self._list(client)
                self.status = self._status("ready", "ready", self.status.notes)
            except Exception as exc:
                self._log.append(f"(its new list of tools could not be read) {exc}")

    async def _list(self, client: Any) -> None:
        from localllm_tui.tools.session import listed_tools

        listed = await listed_tools(client) if client.server_capabilities.tools is not None else []
        tools = [_tool(self.config, raw) for raw in listed]
        self.tools = tuple({tool.own_name: tool for tool in tools}.values())
        notes = tuple(note for tool in self.tools for note in tool.notes)
        self.status = self._status("starting", "starting", self.config.notes + notes)

    def _first_status(self) -> ServerStatus:
        if self.config.is_disabled:
            return self._status("disabled", "switched off in mcp.json")
        if self.config.problem is not None:
            return self._status("failed", self.config.problem)
        return self._status("starting", "starting")

    def _status(self, state: ServerState, words: str, notes: tuple[str, ...] | None = None) -> ServerStatus:
        found = self.config.notes if notes is None else notes
        return ServerStatus(self.config.name, state, words, self.config.where, len(self.tools), found)


def _import_session() -> Any:
    from localllm_tui.tools import session

    return session


def _failure(text: str) -> ToolResult:
    return ToolResult(text, is_error=True)


def _tool(config: ServerConfig, raw: dict[str, Any]) -> Tool:
    """The tool, bounded for models; its fingerprint is that of the whole, and of whose it is."""
    name, description = str(raw["name"]), str(raw.get("description") or "")
    schema = raw.get("inputSchema") or {}
    said = json.dumps([config.where, name, description, schema], sort_keys=True, ensure_ascii=True)
    notes = []
    if len(description) > MAX_DESCRIPTION_CHARS:
        notes.append(f"{name}: its description of {len(description):,} characters was cut")
        description = bounded(description, MAX_DESCRIPTION_CHARS)
    if len(json.dumps(schema)) > MAX_SCHEMA_CHARS:
        notes.append(f"{name}: its schema is longer than {MAX_SCHEMA_CHARS:,} characters; models get none")
        schema = {"type": "object"}
    fingerprint = hashlib.sha256(said.encode()).hexdigest()
    return Tool("", config.name, name, description, schema, fingerprint, tuple(notes))
