"""App: from a request to its dialect's handler and back. The one place of the daemon that catches.

Plain ASGI: no middleware between a stream and its connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from localllm.daemon import anthropic, native, ollama, openai, openapi
from localllm.daemon.context import Daemon
from localllm.daemon.dialect import Call, Dialect, Endpoint, Reply
from localllm.daemon.errors import (
    SHUTTING_DOWN,
    ClientGoneError,
    HttpError,
    Problem,
    headers_of,
    problem_of,
    problem_of_defect,
)
from localllm.daemon.guard import Guard
from localllm.daemon.sse import Connection
from localllm.errors import LocalLLMError

logger = logging.getLogger(__name__)

# The first whose prefix a path has gives an unknown path its error.
_APIS: tuple[Dialect, ...] = (native.DIALECT, ollama.DIALECT, anthropic.DIALECT, openai.DIALECT)
DIALECTS = (openapi.describing(_APIS), *_APIS)


class App:
    """The daemon as an ASGI application."""

    def __init__(self, daemon: Daemon, guard: Guard, dialects: Sequence[Dialect] = DIALECTS) -> None:
        self.daemon = daemon
        self._guard = guard
        self._dialects = dialects
        self._routes = [(_route(endpoint), endpoint, dialect) for dialect in dialects for endpoint in dialect.endpoints]

    def use_guard(self, guard: Guard) -> None:
        """Check requests that come from now on with another guard."""
        self._guard = guard

    def start(self) -> None:
        """Let the dialects go on with what an earlier daemon left unfinished; in the running event loop."""
        for dialect in self._dialects:
            if dialect.start is not None:
                dialect.start(self.daemon)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever happens, it ends here."""
        connection: Connection = scope["state"]["connection"]
        task = asyncio.current_task()
        assert task is not None
        if connection.is_lost:
            return
        connection.on_lost = task.cancel
        began = time.monotonic()
        outcome = _Outcome(send)
        try:
            await self._answer(scope, receive, outcome)
        except ClientGoneError:
            outcome.status = 499
        except asyncio.CancelledError:
            if connection.is_lost:
                outcome.status = 499
            elif not outcome.has_begun:
                await self._refuse(scope, receive, outcome, SHUTTING_DOWN)
        finally:
            connection.on_lost = None
            self.daemon.metrics.count_response(outcome.route, outcome.status)
            seconds = time.monotonic() - began
            logger.info("%s %s %d %.3f s", scope["method"], outcome.route, outcome.status, seconds)

    async def _answer(self, scope: Scope, receive: Receive, outcome: _Outcome) -> None:
        """Check, route, handle; every error becomes an answer in the dialect's shape, if none has begun."""
        try:
            reply = await self._handle(scope, receive, outcome)
            await reply(scope, receive, outcome)
        except LocalLLMError as error:
            await self._refuse(scope, receive, outcome, problem_of(error))
        except ClientGoneError:
            raise
        except Exception as error:
            # A defect met by one request must not end the others': it is logged, and its client is told so much.
            logger.exception("%s failed", outcome.route)
            if not outcome.has_begun:
                await self._refuse(scope, receive, outcome, problem_of_defect(error))

    async def _handle(self, scope: Scope, receive: Receive, outcome: _Outcome) -> Reply:
        preflight = self._guard.preflight(scope)
        if preflight is not None:
            outcome.headers += preflight
            return Response(status_code=204)
        outcome.headers += self._guard.check_page(scope)
        caller = self._guard.identify(scope)
        endpoint, params, outcome.dialect = self._find(scope)
        outcome.route = endpoint.path
        if endpoint.manages and not caller.may_manage:
            raise HttpError(403, "key_may_not", "this key is for asking models only")
        request = Request({**scope, "path_params": params}, receive)
        return await endpoint.handler(Call(self.daemon, request, caller))

    def _find(self, scope: Scope) -> tuple[Endpoint, dict[str, str], Dialect]:
        """The endpoint of a path and method, and whose it is. Raises HttpError 404 or 405."""
        allowed = set()
        for route, endpoint, dialect in self._routes:
            match, child = route.matches(scope)
            if endpoint.header is not None and endpoint.header.encode() not in dict(scope["headers"]):
                continue
            if match is Match.FULL:
                return endpoint, child["path_params"], dialect
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
        if not allowed:
            raise HttpError(404, "unknown_path", "there is no such path")
        methods = ", ".join(sorted(allowed))
        raise HttpError(405, "method_not_allowed", f"this path takes {methods}", headers=(("allow", methods),))

    def _dialect_of(self, scope: Scope) -> Dialect:
        """Whose request it is, where it was refused before that was asked."""
        try:
            return self._find(scope)[2]
        except HttpError:
            path = scope["path"]
            return next((d for d in self._dialects if path.startswith(d.prefix)), self._dialects[-1])

    async def _refuse(self, scope: Scope, receive: Receive, outcome: _Outcome, problem: Problem) -> None:
        if outcome.has_begun:
            return
        dialect = outcome.dialect or self._dialect_of(scope)
        status = dialect.status_of(problem)
        response = Response(dialect.error_body(problem), status, headers_of(problem), media_type="application/json")
        await response(scope, receive, outcome)


class _Outcome:
    """`send`, that adds the headers every answer has and remembers what was answered."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.headers: tuple[tuple[bytes, bytes], ...] = ((b"x-request-id", uuid.uuid4().hex.encode()),)
        self.route = "none"
        self.dialect: Dialect | None = None
        self.status = 500
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self.headers]
        await self._send(message)


def _route(endpoint: Endpoint) -> Route:
    return Route(endpoint.path, _unused, methods=[endpoint.method])


async def _unused(_request: Request) -> Response:
    raise AssertionError("routes are matched here, not called")
