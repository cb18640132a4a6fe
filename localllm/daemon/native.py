"""The daemon's own routes: health, metrics, and what no other dialect has. Thin: JSON in and out of the Backend."""

from __future__ import annotations

import os
import time
from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from localllm.api import Control, LoadedModel
from localllm.daemon.dialect import Call, Dialect, Endpoint, Reply
from localllm.daemon.errors import HttpError, Problem

_MAX_TOKENS = 1 << 20


class TokenizeBody(msgspec.Struct, frozen=True):
    """A text to be cut into tokens. With `parse_special` control tokens written out are taken as such."""

    text: str
    model: str | None = None
    parse_special: bool = False


class DetokenizeBody(msgspec.Struct, frozen=True):
    """Token ids to be turned into text."""

    tokens: Annotated[list[Annotated[int, msgspec.Meta(ge=0, lt=2**31)]], msgspec.Meta(max_length=_MAX_TOKENS)]
    model: str | None = None


class ControlBody(msgspec.Struct, frozen=True):
    """What a running request, by the id its answer has, is told to do."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    control: Control


_control_decoder = msgspec.json.Decoder(ControlBody)
_tokenize_decoder = msgspec.json.Decoder(TokenizeBody)
_detokenize_decoder = msgspec.json.Decoder(DetokenizeBody)


async def health(call: Call) -> Reply:
    """200 while requests are taken, 503 while the daemon drains. Says nothing about anybody's requests."""
    status = "draining" if call.daemon.is_draining else "ok"
    reply = json_reply({"status": status}, 503 if call.daemon.is_draining else 200)
    reply.headers["x-localllm"] = call.daemon.version
    return reply


async def metrics(call: Call) -> Reply:
    """Prometheus' text format."""
    daemon = call.daemon
    loaded = await daemon.backend.list_loaded()
    gauges = {
        "uptime_seconds": time.monotonic() - daemon.started,
        "requests_active": daemon.admission.num_active,
        "models_loaded": len(loaded),
        "sequences_active": sum(model.num_active for model in loaded),
        "sequences_waiting": sum(model.num_waiting for model in loaded),
        "model_bytes": sum(sum(model.bytes_by_device.values()) for model in loaded),
    }
    return Response(daemon.metrics.text(gauges), media_type="text/plain; version=0.0.4; charset=utf-8")


async def props(call: Call) -> Reply:
    """The version, the limits of requests, and the models in memory."""
    daemon = call.daemon
    return json_reply(
        {
            "version": call.daemon.version,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - daemon.started, 3),
            "default_model": daemon.default_model,
            "limits": daemon.limits,
            "loaded": [_loaded(model) for model in await daemon.backend.list_loaded()],
        }
    )


async def queue(call: Call) -> Reply:
    """How many requests are under way, in all and for each model in memory."""
    daemon = call.daemon
    models = [
        {"model": model.name, "num_active": model.num_active, "num_waiting": model.num_waiting}
        for model in await daemon.backend.list_loaded()
    ]
    return json_reply(
        {"num_active": daemon.admission.num_active, "num_places": daemon.limits.num_requests, "models": models}
    )


async def tokenize(call: Call) -> Reply:
    """Token ids of a text, without BOS."""
    body = await call.daemon.bodies.read_json(call.request, _tokenize_decoder)
    model = body.model or call.daemon.default_model
    call.daemon.check_model(model)
    tokens = await call.daemon.backend.tokenize(model, body.text, parse_special=body.parse_special)
    return json_reply({"model": model, "tokens": tokens})


async def detokenize(call: Call) -> Reply:
    """The text of token ids."""
    body = await call.daemon.bodies.read_json(call.request, _detokenize_decoder)
    model = body.model or call.daemon.default_model
    call.daemon.check_model(model)
    return json_reply({"model": model, "text": await call.daemon.backend.detokenize(model, body.tokens)})


async def control(call: Call) -> Reply:
    """Steer a running request: end it, or its thinking."""
    body = await call.daemon.bodies.read_json(call.request, _control_decoder)
    if not await call.daemon.backend.control(body.id, body.control):
        raise HttpError(404, "request_not_found", "no such request is running", param="id")
    return json_reply({"id": body.id, "control": body.control})


def json_reply(value: Any, status: int = 200) -> Response:
    """A value as a JSON response."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def error_body(problem: Problem) -> bytes:
    """The shape of this dialect's errors."""
    error: dict[str, Any] = {"code": problem.code, "message": problem.message}
    error |= {name: value for name in ("hint", "param") if (value := getattr(problem, name)) is not None}
    return msgspec.json.encode({"error": error | problem.counts})


def _loaded(model: LoadedModel) -> Any:
    return msgspec.to_builtins(model)


DIALECT = Dialect(
    "native",
    "/api/localllm/",
    (
        Endpoint("GET", "/health", health),
        Endpoint("GET", "/metrics", metrics),
        Endpoint("GET", "/api/localllm/props", props),
        Endpoint("GET", "/api/localllm/queue", queue),
        Endpoint("POST", "/api/localllm/tokenize", tokenize),
        Endpoint("POST", "/api/localllm/detokenize", detokenize),
        Endpoint("POST", "/api/localllm/control", control),
    ),
    error_body,
)
