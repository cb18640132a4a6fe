"""The native API's JSON: values as msgspec writes them, errors with their class, events one a server-sent event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from localllm.api import Event
from localllm.daemon.errors import Problem

_encode = msgspec.json.encode


def json_reply(value: Any, status: int = 200) -> Response:
    """A value as a JSON response."""
    return Response(_encode(value), status, media_type="application/json")


def error_value(problem: Problem) -> dict[str, Any]:
    """An error: its code for programs, its words for people, its class and facts for `localllm.Client`."""
    error: dict[str, Any] = {"code": problem.code, "message": problem.message}
    for name in ("hint", "param", "retry_after_s"):
        if (value := getattr(problem, name)) is not None:
            error[name] = value
    if problem.type:
        error["type"] = problem.type
        error["facts"] = problem.facts
    return error


def error_body(problem: Problem) -> bytes:
    """The shape of this dialect's errors."""
    return _encode({"error": error_value(problem)})


class EventsEncoder:
    """Events as they are in `localllm.api`, each an object with its `type`; an error is an event of the type "error".

    A stream that ends without one is whole.
    """

    media_type = "text/event-stream"
    ping = b": ping\n\n"

    def encode(self, events: Sequence[Event]) -> bytes:
        """The events, one a `data:` line."""
        return b"".join([b"data: " + _encode(event) + b"\n\n" for event in events])

    def fail(self, problem: Problem) -> bytes:
        """The one error event that ends a stream."""
        return b"event: error\ndata: " + _encode({"type": "error", "error": error_value(problem)}) + b"\n\n"
