"""Ollama's routes about models on disk and in memory: tags, ps, show, pull, push, copy, delete."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.responses import Response

from localllm.api import Event, Finished, LoadedModel, ModelInfo, SamplingParams, Usage
from localllm.api.keeper import ModelDetails
from localllm.closing import closing
from localllm.daemon.abilities import keeper_of
from localllm.daemon.dialect import KEEPING, LINES, MODEL, Call, Endpoint, Reply, Returns
from localllm.daemon.errors import HttpError
from localllm.daemon.native import json_reply
from localllm.daemon.ollama.shapes import RunningModels, Shown, StatusLine, Tags
from localllm.daemon.ollama.shelf import leave_memory
from localllm.daemon.ollama.status import SUCCESS, StatusStream
from localllm.daemon.ollama.values import capabilities_value, details_value, digest_value, model_name
from localllm.daemon.sse import EventStream
from localllm.errors import ModelNotFoundError
from localllm.name import ModelName


class ModelBody(msgspec.Struct, frozen=True, kw_only=True):
    """A body that names a model; `name` is the older spelling."""

    model: str | None = None
    name: str | None = None
    stream: bool | None = None
    verbose: bool = False

    @property
    def wanted(self) -> str:
        """The model's name. Raises InvalidRequestError where there is none."""
        return model_name(self.model or self.name)


class CopyBody(msgspec.Struct, frozen=True):
    """The body of /api/copy."""

    source: str
    destination: str


_model_decoder = msgspec.json.Decoder(ModelBody)
_copy_decoder = msgspec.json.Decoder(CopyBody)
_NAMES = {"max_tokens": "num_predict"}


async def tags(call: Call) -> Reply:
    """The installed models, the newest first."""
    models = sorted(await call.daemon.backend.list_models(), key=lambda info: info.modified, reverse=True)
    return json_reply({"models": [_listed(info) for info in models]})


async def ps(call: Call) -> Reply:
    """The models in memory, those that stay longest first."""
    backend = call.daemon.backend
    infos = {info.name: info for info in await backend.list_models()}
    now = datetime.datetime.now(datetime.UTC)
    loaded = [model for model in await backend.list_loaded() if model.state != "loading"]
    loaded.sort(key=lambda model: -1e18 if model.expires_in_s is None else -model.expires_in_s)
    return json_reply({"models": [_running(model, infos.get(model.name), now) for model in loaded]})


async def show(call: Call) -> Reply:
    """All that is known of one model."""
    body = await call.daemon.bodies.read_json(call.request, _model_decoder, any_type=True)
    call.daemon.check_model(body.wanted)
    details = await keeper_of(call.daemon).details(body.wanted, tensors=body.verbose)
    return json_reply(shown_value(details))


async def pull(call: Call) -> Reply:
    """Bring a model into the store."""
    body = await call.daemon.bodies.read_json(call.request, _model_decoder, any_type=True)
    events = pulled(call, body.wanted)
    if body.stream is not False:
        return EventStream(_with_end(events), StatusStream(), call.daemon.limits, eager=True)
    async with closing(events) as stream:
        async for _event in stream:
            pass
    return json_reply(SUCCESS)


async def push(call: Call) -> Reply:
    """Refused: nothing is published from here."""
    await call.daemon.bodies.read_json(call.request, _model_decoder, any_type=True)
    raise HttpError(400, "not_supported", "push is not offered: models are not published from here")


async def copy(call: Call) -> Reply:
    """Give a model a second name."""
    body = await call.daemon.bodies.read_json(call.request, _copy_decoder, any_type=True)
    source, target = model_name(body.source, "source"), model_name(body.destination, "destination")
    call.daemon.check_model(source)
    await keeper_of(call.daemon).copy(source, target)
    return Response()


async def delete(call: Call) -> Reply:
    """Take a model out of the store; one that is loaded and idle is unloaded first."""
    body = await call.daemon.bodies.read_json(call.request, _model_decoder, any_type=True)
    call.daemon.check_model(body.wanted)
    keeper = keeper_of(call.daemon)
    name = (await keeper.info(body.wanted)).name
    await leave_memory(call.daemon, name)
    await keeper.remove(name)
    return Response()


async def pulled(call: Call, model: str) -> AsyncIterator[Event]:
    """The progress of a pull. Raises ModelNotFoundError for what clients may not have fetched."""
    call.daemon.check_model(model)
    if ModelName.parse(model).source in ("url", "file"):
        raise ModelNotFoundError(f"no model {model}", hint="clients name models, not addresses and files", name=model)
    with call.daemon.place(model, call.caller):
        async for progress in call.daemon.backend.pull(model):
            yield progress


def shown_value(details: ModelDetails) -> dict[str, Any]:
    """The answer of /api/show."""
    info, parameters = details.info, _parameters(details)
    model_info = dict(details.metadata)
    if info.num_params is not None:
        model_info.setdefault("general.parameter_count", info.num_params)
    value: dict[str, Any] = {
        "license": info.licence or "",
        "modelfile": _modelfile(details, parameters),
        "parameters": "\n".join(f"{name:<30} {text}" for name, text in parameters),
        "template": details.template or "",
        "system": details.system or "",
        "details": details_value(info),
        "model_info": model_info,
        "capabilities": capabilities_value(info.capabilities),
        "modified_at": info.modified,
    }
    if details.tensors:
        value["tensors"] = [{"name": t.name, "type": t.type, "shape": list(t.shape)} for t in details.tensors]
    return value


async def _with_end(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """The events of work that has no last one, and that."""
    async with closing(events) as stream:
        async for event in stream:
            yield event
    yield Finished("stop", Usage())


def _listed(info: ModelInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "model": info.name,
        "modified_at": info.modified,
        "size": info.size_bytes,
        "digest": digest_value(info.digest),
        "details": details_value(info),
        "capabilities": capabilities_value(info.capabilities),
    }


def _running(loaded: LoadedModel, info: ModelInfo | None, now: datetime.datetime) -> dict[str, Any]:
    sizes = loaded.bytes_by_device
    expires = None
    if loaded.expires_in_s is not None:
        expires = (now + datetime.timedelta(seconds=loaded.expires_in_s)).isoformat()
    return {
        "name": loaded.name,
        "model": loaded.name,
        "size": sum(sizes.values()),
        "digest": digest_value(info.digest) if info else "",
        "details": details_value(info),
        "expires_at": expires,
        "size_vram": sum(size for device, size in sizes.items() if device.upper() != "CPU"),
        "context_length": loaded.num_ctx,
    }


def _parameters(details: ModelDetails) -> list[tuple[str, str]]:
    """The model's own defaults, a line each."""
    found = [] if details.num_ctx is None else [("num_ctx", str(details.num_ctx))]
    for name in SamplingParams.__struct_fields__:
        value = getattr(details.sampling, name)
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        found += [(_NAMES.get(name, name), msgspec.json.encode(one).decode()) for one in values]
    return found


def _modelfile(details: ModelDetails, parameters: list[tuple[str, str]]) -> str:
    lines = [f"FROM {details.info.name}", *(f"PARAMETER {name} {text}" for name, text in parameters)]
    if details.system:
        lines.append(f'SYSTEM """{details.system}"""')
    return "\n".join(lines) + "\n"


_STATUS = (Returns(StatusLine), Returns(StatusLine, LINES))
_NOTHING = (Returns(media=""),)
ENDPOINTS = (
    Endpoint("GET", "/api/tags", tags, returns=(Returns(Tags),)),
    Endpoint("GET", "/api/ps", ps, returns=(Returns(RunningModels),)),
    Endpoint("POST", "/api/show", show, body=ModelBody, returns=(Returns(Shown),), fails=KEEPING),
    Endpoint("POST", "/api/pull", pull, manages=True, body=ModelBody, returns=_STATUS, fails=MODEL),
    Endpoint("POST", "/api/push", push, manages=True, body=ModelBody),
    Endpoint("POST", "/api/copy", copy, manages=True, body=CopyBody, returns=_NOTHING, fails=KEEPING),
    Endpoint("DELETE", "/api/delete", delete, manages=True, body=ModelBody, returns=_NOTHING, fails=KEEPING),
)
