"""What a dialect is: its routes and the shape of its errors. A dialect's module has one `DIALECT` for `app.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from localllm.daemon.context import Daemon
from localllm.daemon.errors import Problem
from localllm.daemon.guard import Caller


class Reply(Protocol):
    """What a handler returns: a Starlette Response, or an EventStream."""

    status_code: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send, /) -> None:
        """Write itself."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way through a handler."""

    daemon: Daemon
    request: Request
    caller: Caller


Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Returns:
    """One way in which a route answers: a JSON body of `type`, or a stream of such values, which an error may end.

    Without a `type` the body is no JSON; `media` "" is an answer without a body.
    """

    type: Any = None
    media: str = "application/json"
    status: int = 200


EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
# Statuses beside those any request may get: where a model is found, pulled and loaded first; where one is kept.
MODEL = (404, 409, 502, 507)
KEEPING = (*MODEL, 501)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path, in Starlette's syntax of paths; with `header` only for requests that have it.

    One that `manages` changes what others get: models on disk or in memory, settings. Keys for asking alone do not do.
    The rest describes it to the OpenAPI document: the type of its body, of its query (a TypedDict of text), its
    answers, and the statuses of errors that are this route's own.
    """

    method: str
    path: str
    handler: Handler
    header: str | None = None
    manages: bool = False
    body: Any = None
    query: Any = None
    returns: tuple[Returns, ...] = ()
    fails: tuple[int, ...] = ()
    body_media: str = "application/json"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API. Its error shape also answers for paths below `prefix` that do not exist.

    `status_of` is the status that clients of this API know for a problem. `start` is called once a daemon listens.
    `error_type` is the shape of its errors, `more_statuses` those that only its `status_of` makes.
    """

    name: str
    prefix: str
    endpoints: tuple[Endpoint, ...]
    error_body: Callable[[Problem], bytes]
    status_of: Callable[[Problem], int] = attrgetter("status")
    start: Callable[[Daemon], None] | None = None
    error_type: Any = None
    more_statuses: tuple[int, ...] = ()
