"""Routes about models: what is installed and loaded; load, unload and pull, with their progress as events."""

from __future__ import annotations

from collections.abc import AsyncIterator

from localllm.api import Event
from localllm.daemon.dialect import EVENTS, MODEL, Call, Endpoint, Reply, Returns
from localllm.daemon.native.requests import LoadBody, PullBody, UnloadBody, read
from localllm.daemon.native.shapes import Loaded, Models, Unloaded
from localllm.daemon.native.values import EventsEncoder, json_reply
from localllm.daemon.sse import EventStream
from localllm.errors import ModelNotFoundError
from localllm.name import ModelName


async def installed(call: Call) -> Reply:
    """The installed models."""
    return json_reply({"models": await call.daemon.backend.list_models()})


async def loaded(call: Call) -> Reply:
    """The models in memory."""
    return json_reply({"models": await call.daemon.backend.list_loaded()})


async def load(call: Call) -> Reply:
    """Bring a model into memory; answers with the load's events."""
    body = await read(call, LoadBody)
    call.daemon.check_model(body.model)
    call.daemon.check_open()
    return EventStream(_load(call, body), EventsEncoder(), call.daemon.limits, eager=True)


async def _load(call: Call, body: LoadBody) -> AsyncIterator[Event]:
    with call.daemon.place(body.model, call.caller):
        load = call.daemon.backend.load(body.model, keep_alive_s=body.keep_alive_s, pin=body.pin, num_ctx=body.num_ctx)
        async for news in load:
            yield news


async def unload(call: Call) -> Reply:
    """Take a model out of memory once its running requests have ended."""
    body = await read(call, UnloadBody)
    call.daemon.check_model(body.model)
    await call.daemon.backend.unload(body.model)
    return json_reply({"model": body.model})


async def pull(call: Call) -> Reply:
    """Bring a model into the store; answers with the download's events. Addresses and files are not taken."""
    body = await read(call, PullBody)
    call.daemon.check_open()
    if ModelName.parse(body.model).source in ("file", "url"):
        hint = "clients name models, not addresses and files"
        raise ModelNotFoundError(f"no model {body.model}", hint=hint, name=body.model)
    return EventStream(_pull(call, body.model), EventsEncoder(), call.daemon.limits, eager=True)


async def _pull(call: Call, model: str) -> AsyncIterator[Event]:
    with call.daemon.place(model, call.caller):
        async for progress in call.daemon.backend.pull(model):
            yield progress


_EVENTS = (Returns(Event, EVENTS),)
ENDPOINTS = (
    Endpoint("GET", "/api/localllm/models", installed, returns=(Returns(Models),)),
    Endpoint("GET", "/api/localllm/loaded", loaded, returns=(Returns(Loaded),)),
    Endpoint("POST", "/api/localllm/load", load, manages=True, body=LoadBody, returns=_EVENTS, fails=MODEL),
    Endpoint(
        "POST",
        "/api/localllm/unload",
        unload,
        manages=True,
        body=UnloadBody,
        returns=(Returns(Unloaded),),
        fails=MODEL,
    ),
    Endpoint("POST", "/api/localllm/pull", pull, manages=True, body=PullBody, returns=_EVENTS, fails=MODEL),
)
