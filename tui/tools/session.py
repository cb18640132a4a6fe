"""One session with a server by the MCP SDK; the only module that knows its classes besides `child`.

It is imported when `mcp.json` names a server: the SDK takes longer to import than the whole chat.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
from localllm_tui.tools.child import child_streams
from localllm_tui.tools.configuration import ServerConfig
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import INVALID_REQUEST, Implementation, ToolListChangedNotification

import localllm

MAX_BODY_BYTES = 16_000_000
MAX_TOOLS = 1000
MAX_PAGES = 100

# Its warnings would be written into the middle of the screen where nobody set up logging.
logging.getLogger("mcp").addHandler(logging.NullHandler())


class SessionError(Exception):
    """The server refused, or does not speak as it should; says so in words."""


class SessionLostError(SessionError):
    """The server knows the session no longer; it has not looked at the call."""


@contextlib.asynccontextmanager
async def open_session(
    config: ServerConfig,
    *,
    on_log: Callable[[str], None],
    on_end: Callable[[str], None],
    on_change: Callable[[], None],
) -> AsyncIterator[Client]:
    """Connect and greet. `on_change`: its list of tools is another one now; the others are those of `child_streams`."""

    async def on_message(message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            on_change()

    streams = _http_streams(config) if config.url else child_streams(config, on_log, on_end)
    client = Client(
        streams,
        message_handler=on_message,
        client_info=Implementation(name="localllm", version=localllm.__version__),
        cache=None,
    )
    async with client:
        yield client


async def listed_tools(client: Client) -> list[dict[str, Any]]:
    """Every tool the server has, as JSON. Raises SessionError for a list without end."""
    tools: list[dict[str, Any]] = []
    cursor = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools]
        cursor = page.next_cursor
        if len(tools) > MAX_TOOLS:
            break
        if cursor is None:
            return tools
    raise SessionError(f"it has more than {MAX_TOOLS} tools, or its list has no end")


async def answer_of(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What a call came to, as JSON. Raises SessionError."""
    try:
        result = await client.call_tool(tool, arguments)
    except MCPError as exc:
        # How the SDK tells of a 404 to a session's id.
        is_lost = (exc.code, exc.message) == (INVALID_REQUEST, "Session terminated")
        raise (SessionLostError if is_lost else SessionError)(exc.message) from exc
    except RuntimeError as exc:
        # The SDK's way to say that an answer disagrees with what the tool declared.
        raise SessionError(str(exc)) from exc
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


async def watch(client: Client, on_change: Callable[[], Awaitable[None]]) -> None:
    """Tell of changes where a server of the newer protocol has to be asked to; returns where it cannot."""
    capability = client.server_capabilities.tools
    if capability is None or not capability.list_changed:
        return
    from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost

    with contextlib.suppress(ListenNotSupportedError, SubscriptionLost, MCPError):
        async with client.listen(tools_list_changed=True) as subscription:
            async for _ in subscription:
                await on_change()


def why(error: BaseException) -> str:
    """An error of the SDK, or what lies at the bottom of a group of them, in a line of words."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case TimeoutError():
            return "it did not answer in time"
        case FileNotFoundError():
            return f"there is no {error.filename or 'such command'}"
        case OSError() if error.strerror:
            return error.strerror
        case httpx2.HTTPStatusError():
            return str(error)
        case httpx2.HTTPError():
            return f"no connection: {error or type(error).__name__}"
        case MCPError():
            return error.message
    return str(error) or type(error).__name__


@contextlib.asynccontextmanager
async def _http_streams(config: ServerConfig) -> AsyncIterator[Any]:
    timeout = httpx2.Timeout(30.0, read=max(300.0, config.call_timeout_s))
    # Unpacking is refused: a small body could unpack to any size.
    headers = {**dict(config.headers), "Accept-Encoding": "identity"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout, event_hooks={"response": [_bound]}) as http,
        streamable_http_client(config.url, http_client=http) as streams,
    ):
        yield streams


async def _bound(response: httpx2.Response) -> None:
    # 400, 404 and 405 have their meaning in the protocol; for these the SDK would not say which it was.
    if response.status_code in (401, 403, 407) or response.status_code >= 500:
        words = f"it refused with {response.status_code} {response.reason_phrase}".strip()
        raise httpx2.HTTPStatusError(words, request=response.request, response=response)
    if response.headers.get("content-encoding", "identity") != "identity":
        raise httpx2.DecodingError("it packs its answers, unasked", request=response.request)
    # A stream of events goes on for as long as the session; the SDK bounds each event.
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream)


class _Bounded(httpx2.AsyncByteStream):
    """A body that ends in an error beyond `MAX_BODY_BYTES`."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        num_bytes = 0
        async for piece in self._stream:
            num_bytes += len(piece)
            if num_bytes > MAX_BODY_BYTES:
                raise httpx2.ReadError(f"it sent more than {MAX_BODY_BYTES // 1_000_000} MB")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
