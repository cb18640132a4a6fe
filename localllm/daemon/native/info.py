"""Routes about the daemon itself: health, metrics, props, the queue and its stream, steering and reloading."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any, cast

from starlette.responses import Response

from localllm.api import Event, RunningRequest, Status
from localllm.daemon.dialect import EVENTS, Call, Endpoint, Reply, Returns
from localllm.daemon.errors import HttpError
from localllm.daemon.native.requests import ControlBody, read
from localllm.daemon.native.shapes import Controlled, Health, Log, Props, Queue, Reloaded
from localllm.daemon.native.values import EventsEncoder, json_reply
from localllm.daemon.sse import EventStream

# How often a status stream looks, and how often it says something in any case.
_LOOK_S = 0.25
_AGAIN_S = 10.0


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
            "loaded": await daemon.backend.list_loaded(),
        }
    )


async def queue(call: Call) -> Reply:
    """Who runs, who waits and for how long still; of others' requests without their ids."""
    status = await _status(call)
    models = [
        {"model": model.name, "num_active": model.num_active, "num_waiting": model.num_waiting}
        for model in status.loaded
    ]
    return json_reply(
        {
            "num_active": status.num_active,
            "num_places": status.num_places,
            "models": models,
            "requests": status.requests,
        }
    )


async def status(call: Call) -> Reply:
    """The models in memory and the queue, as a stream: whenever something changes, and now and then."""
    call.daemon.check_open()
    return EventStream(cast("AsyncIterator[Event]", _statuses(call)), EventsEncoder(), call.daemon.limits, eager=True)


async def _statuses(call: Call) -> AsyncIterator[Status]:
    shown: Any = None
    said_at = 0.0
    while not call.daemon.is_draining:
        now = await _status(call)
        if (key := _key(now)) != shown or time.monotonic() - said_at >= _AGAIN_S:
            shown, said_at = key, time.monotonic()
            yield now
        await asyncio.sleep(_LOOK_S)


def _key(status: Status) -> Any:
    """What makes a status worth another event: all but the clocks in it."""
    models = [
        (m.name, m.pid, m.state, m.num_active, m.num_waiting, m.pinned, m.expires_in_s is None, m.num_output_tokens)
        for m in status.loaded
    ]
    requests = [(r.id, r.model, r.state, r.num_ahead) for r in status.requests]
    return models, requests


async def _status(call: Call) -> Status:
    daemon = call.daemon
    now = time.monotonic()
    requests = tuple(
        RunningRequest(
            model=job.model,
            kind=job.kind,
            state=job.state,
            seconds=round(now - job.began, 3),
            id=job.id if daemon.running.is_for(job, call.caller) else None,
            num_ahead=job.num_ahead,
            eta_s=job.eta_s,
        )
        for job in daemon.running.jobs()
    )
    loaded = tuple(await daemon.backend.list_loaded())
    return Status(loaded, requests, daemon.admission.num_active, daemon.limits.num_requests)


async def control(call: Call) -> Reply:
    """Steer a request: end it, or its thinking, or let it pass those that wait."""
    body = await read(call, ControlBody)
    if not call.daemon.running.is_of(body.id, call.caller) or not await call.daemon.backend.control(
        body.id, body.control
    ):
        raise HttpError(404, "request_not_found", "no such request is running", param="id")
    return json_reply({"id": body.id, "control": body.control})


async def reload(call: Call) -> Reply:
    """Read keys, settings and the catalogue again. What is wrong in them is the error, and nothing changes then."""
    if call.daemon.reload is None:
        raise HttpError(501, "not_reloadable", "this daemon cannot read its settings again")
    await call.daemon.reload()
    return json_reply({"status": "reloaded"})


async def log(call: Call) -> Reply:
    """The last lines that were logged: starts, loads, requests by their routes, failures. Never a prompt."""
    return json_reply({"lines": list(call.daemon.recent.lines)})


ENDPOINTS = (
    Endpoint("GET", "/health", health, returns=(Returns(Health), Returns(Health, status=503))),
    Endpoint("GET", "/metrics", metrics, returns=(Returns(media="text/plain"),)),
    Endpoint("GET", "/api/localllm/props", props, returns=(Returns(Props),)),
    Endpoint("GET", "/api/localllm/queue", queue, returns=(Returns(Queue),)),
    Endpoint("GET", "/api/localllm/status", status, returns=(Returns(Status, EVENTS),)),
    Endpoint("POST", "/api/localllm/control", control, body=ControlBody, returns=(Returns(Controlled),), fails=(404,)),
    Endpoint("GET", "/api/localllm/log", log, manages=True, returns=(Returns(Log),)),
    Endpoint("POST", "/api/localllm/reload", reload, manages=True, returns=(Returns(Reloaded),), fails=(501,)),
)
