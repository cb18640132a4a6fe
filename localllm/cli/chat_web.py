"""`localllm chat --web`: the same chat in a browser of this machine, over textual-serve.

Each page that is opened runs a `localllm chat` of its own and ends it when it closes. Only who has the token of the
printed address gets anything: a page of another site can reach loopback too, but cannot know it. The page, its script
and its fonts come from this process; nothing is asked of the network.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from aiohttp import web
from textual_serve.app_service import AppService
from textual_serve.server import Server, to_int

from localllm.errors import ConfigError

HOST = "127.0.0.1"
_DRIVER = "localllm_tui.web_driver:ChatWebDriver"
_END_S = 5.0
_HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self' 'unsafe-inline'",
            "style-src 'self' 'unsafe-inline'",
            "font-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self' {ws}",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        )
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
# `textual.js` looks for the element and tells the body when the first byte has come and when the connection has gone.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"><title>localllm</title>
<link rel="stylesheet" href="{base}static/css/xterm.css">
<script src="{base}static/js/textual.js"></script>
<style>
@font-face {{ font-family: "Roboto Mono"; font-weight: 100 700;
  src: url("{base}static/fonts/RobotoMono-VariableFont_wght.ttf"); }}
@font-face {{ font-family: "Roboto Mono"; font-weight: 100 700; font-style: italic;
  src: url("{base}static/fonts/RobotoMono-Italic-VariableFont_wght.ttf"); }}
html, body {{ margin: 0; background: #16181d; color: #c8ccd4; font: 16px "Roboto Mono", monospace; }}
#ended {{ display: none; position: fixed; inset: 0; place-content: center; text-align: center; background: #16181d; }}
body.-closed #ended {{ display: grid; }}
a {{ color: #8ab4f8; }}
</style>
</head>
<body>
<div id="terminal" class="textual-terminal" data-session-websocket-url="{ws}" data-font-size="{font_size}"></div>
<div id="ended"><p>The chat has ended.</p><p><a href="">Open it again</a></p></div>
</body>
</html>
"""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def serve_chat(args: Sequence[str], port: int) -> None:
    """Serve the chat of this command line until Ctrl-C; the address is printed once. Raises ConfigError."""
    from localllm.cli.output import Output

    try:
        sock = socket.create_server((HOST, port))
    except OSError as exc:
        raise ConfigError(f"port {port} of {HOST} is not free: {exc.strerror}", hint="--port takes another") from exc
    output = Output()
    chats = ChatServer(child_command(args), sock.getsockname()[1])
    output.line(chats.url)
    output.flush()
    output.note("Ctrl-C ends the chat in the browser; its conversations stay")
    asyncio.run(_serve(chats, sock))


async def _serve(chats: ChatServer, sock: socket.socket) -> None:
    runner = web.AppRunner(await chats.application(), handle_signals=False, access_log=None, shutdown_timeout=_END_S)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    ended = asyncio.Event()
    _on_end(asyncio.get_running_loop(), ended)
    try:
        await ended.wait()
    finally:
        await runner.cleanup()


def _on_end(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """Ctrl-C and a polite kill set `ended`; Windows has no handlers on a loop, and raises KeyboardInterrupt there."""
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, ended.set)
        except NotImplementedError:
            return


def child_command(args: Sequence[str]) -> str:
    """The chat of this command line without its `--web`, as a line for the shell."""
    kept, rest = [], iter(args)
    for word in rest:
        if word in {"--port", "-p"}:
            next(rest, None)
        elif word != "--web" and not word.startswith("--port="):
            kept.append(word)
    command = [sys.executable, "-P", "-m", "localllm", *kept]
    return subprocess.list2cmdline(command) if os.name == "nt" else f"exec {shlex.join(command)}"


class ChatService(AppService):
    """One page's chat."""

    def _build_environment(self, width: int = 80, height: int = 24) -> dict[str, str]:
        return super()._build_environment(width, height) | {"TEXTUAL_DRIVER": _DRIVER, "COLORTERM": "truecolor"}

    async def stop(self) -> None:
        """End the chat: it is asked to, and after a while made to."""
        process, task = self._process, self._task
        if process is None or task is None:
            return
        try:
            await asyncio.wait_for(super().stop(), _END_S)
        except TimeoutError:
            process.kill()
        finally:
            self._task = None
        await process.wait()


class ChatServer(Server):
    """The pages of one `--web`. Everything lies under a random folder, which is the token."""

    def __init__(self, command: str, port: int) -> None:
        self.token = secrets.token_urlsafe(24)
        super().__init__(command, host=HOST, port=port, title="localllm")
        self.url = f"http://{HOST}:{port}/{self.token}/"
        self._open: set[web.WebSocketResponse] = set()

    async def application(self) -> web.Application:
        """The routes, behind the guard."""
        app = web.Application(middlewares=[self._guard])
        base = f"/{self.token}"
        app.add_routes(
            [
                web.get(f"{base}/", self.handle_index),
                web.get(f"{base}/ws", self.handle_websocket),
                web.get("/download/{key}", self.handle_download),
                web.static(f"{base}/static", self.statics_path),
            ]
        )
        app.on_shutdown.append(self._close_all)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Only who has the token, from a page of this server, at a name of this machine."""
        if not self._is_from_here(request) or not self._has_token(request):
            return web.Response(status=403, text="403: this chat is opened with the whole address that was printed\n")
        response = await handler(request)
        if not response.prepared:
            ws = f"ws://{request.host}"
            response.headers.update({name: value.format(ws=ws) for name, value in _HEADERS.items()})
        return response

    def _is_from_here(self, request: web.Request) -> bool:
        hosts = {f"{HOST}:{self.port}", f"localhost:{self.port}"}
        origin = request.headers.get("Origin")
        site = request.headers.get("Sec-Fetch-Site", "none")
        return (
            request.host in hosts
            and (origin is None or urlsplit(origin).netloc in hosts)
            and (origin is not None or site in {"none", "same-origin"})
        )

    def _has_token(self, request: web.Request) -> bool:
        # Downloads have a key of their own, which only the page that asked was told.
        folder = request.path.split("/")[1]
        return hmac.compare_digest(folder.encode(), self.token.encode()) or folder == "download"

    async def handle_index(self, request: web.Request) -> web.Response:
        """The page."""
        base = f"/{self.token}/"
        size = min(max(to_int(request.query.get("fontsize", "16"), 16), 6), 60)
        page = _PAGE.format(base=base, ws=f"ws://{request.host}{base}ws", font_size=size)
        return web.Response(text=page, content_type="text/html")

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """One page's chat, as long as the page is there."""
        socket = web.WebSocketResponse(heartbeat=15, max_msg_size=64 << 20)
        if not request.headers.get("Origin"):
            raise web.HTTPForbidden(text="403: a page says where it is from\n")
        await socket.prepare(request)
        self._open.add(socket)

        async def close() -> None:
            await socket.close()

        chat = ChatService(
            self.command,
            write_bytes=socket.send_bytes,
            write_str=socket.send_str,
            close=close,
            download_manager=self.download_manager,
        )
        try:
            width, height = (to_int(request.query.get(name, ""), 80) for name in ("width", "height"))
            await chat.start(width, height)
            await self._process_messages(socket, chat)
        finally:
            self._open.discard(socket)
            await chat.stop()
        return socket

    async def _close_all(self, _app: web.Application) -> None:
        for page in tuple(self._open):
            await page.close()
