"""A server as a child process: MCP over its stdin and stdout, its stderr as a bounded log.

The SDK has a transport for this; ours bounds what a server may send in one line, and keeps what it says on stderr.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable

import anyio
from localllm_tui.tools.configuration import ServerConfig
from mcp import types
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage

MAX_MESSAGE_BYTES = 16_000_000
MAX_STRAY_LINES = 10_000
EXIT_S = 2.0
KILL_S = 1.0

Streams = tuple[
    anyio.abc.ObjectReceiveStream[SessionMessage | Exception],
    anyio.abc.ObjectSendStream[SessionMessage],
]


@contextlib.asynccontextmanager
async def child_streams(
    config: ServerConfig, on_log: Callable[[str], None], on_end: Callable[[str], None]
) -> AsyncIterator[Streams]:
    """Start the server and speak with it; it has ended when this has.

    `on_log` gets each line of its stderr, `on_end` once in words why no more will come. Raises OSError.
    """
    process = await _start(config)
    to_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)

    async def read() -> None:
        async with to_session:
            reason = await _read(process, to_session, on_log)
            on_end(reason or await _exit_words(process))

    async def write() -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            async with from_session:
                async for message in from_session:
                    line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                    process.stdin.write(line.encode() + b"\n")
                    await process.stdin.drain()

    async def listen() -> None:
        assert process.stderr is not None
        await _log(process.stderr, on_log)

    async with anyio.create_task_group() as tasks:
        for task in (read, write, listen):
            tasks.start_soon(task)
        try:
            yield incoming, outgoing
        finally:
            with anyio.CancelScope(shield=True):
                incoming.close()
                outgoing.close()
                await _end(process)
            tasks.cancel_scope.cancel()


async def _start(config: ServerConfig) -> asyncio.subprocess.Process:
    environment = {**get_default_environment(), **dict(config.env)}
    # Windows finds `npx` only as `npx.cmd`, and only when asked for the whole path.
    command = shutil.which(config.command, path=environment.get("PATH")) or config.command
    return await asyncio.create_subprocess_exec(
        command,
        *config.args,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=config.cwd,
        limit=MAX_MESSAGE_BYTES,
        # Ctrl-C is for the chat to interpret; and a server's own children end with it.
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


async def _read(
    process: asyncio.subprocess.Process,
    to_session: anyio.abc.ObjectSendStream[SessionMessage | Exception],
    on_log: Callable[[str], None],
) -> str | None:
    """Messages to the session until there are no more; why, unless the server closed its stdout."""
    assert process.stdout is not None
    num_stray = 0
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:
            return f"it sent a message of more than {MAX_MESSAGE_BYTES // 1_000_000} MB"
        except OSError as exc:
            return f"reading from it failed: {exc}"
        if not line:
            return None
        try:
            message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            num_stray += 1
            if num_stray > MAX_STRAY_LINES:
                return f"it wrote more than {MAX_STRAY_LINES:,} lines that are no messages to its stdout"
            if line.strip():
                on_log(f"(on stdout, and no message) {line[:2000].decode(errors='replace').rstrip()}")
            continue
        try:
            await to_session.send(SessionMessage(message))
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return "the connection was closed"


async def _log(stream: asyncio.StreamReader, on_log: Callable[[str], None]) -> None:
    rest = b""
    while piece := await stream.read(65_536):
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > 4000:
            lines, rest = [*lines, rest], b""
        # What one piece holds beyond this the bounded log would drop anyway.
        for line in lines[-200:]:
            on_log(line[:4000].decode(errors="replace").rstrip("\r"))
        await asyncio.sleep(0)
    if rest:
        on_log(rest.decode(errors="replace"))


async def _exit_words(process: asyncio.subprocess.Process) -> str:
    if not await _has_ended(process, EXIT_S) or process.returncode is None:
        return "it closed its stdout"
    code = process.returncode
    if code >= 0:
        return f"it ended (exit status {code})"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close its stdin, and see to it that it ends, with the processes it started."""
    assert process.stdin is not None
    process.stdin.close()
    if not await _has_ended(process, EXIT_S):
        await _stop_tree(process, is_last=False)
        if not await _has_ended(process, KILL_S):
            await _stop_tree(process, is_last=True)
            await _has_ended(process, KILL_S)
    # A grandchild may hold the pipes open; nothing public closes our ends of them.
    transport = getattr(process, "_transport", None)
    if transport is not None:
        with contextlib.suppress(PermissionError):
            transport.close()
    await asyncio.sleep(0)


async def _has_ended(process: asyncio.subprocess.Process, within_s: float) -> bool:
    """Whether it ended in time. `Process.wait` would wait for its pipes, too, which a grandchild may hold."""
    with anyio.move_on_after(within_s):
        while process.returncode is None:
            await asyncio.sleep(0.01)
    return process.returncode is not None


async def _stop_tree(process: asyncio.subprocess.Process, *, is_last: bool) -> None:
    if sys.platform == "win32":
        killer = await asyncio.create_subprocess_exec(
            "taskkill", "/PID", str(process.pid), "/T", "/F", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await killer.wait()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL if is_last else signal.SIGTERM)
