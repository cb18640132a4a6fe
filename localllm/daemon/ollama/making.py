"""Ollama's routes that make models: create, from a JSON body or a Modelfile, and the blobs a body may name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from localllm.api import Event, Finished, Usage
from localllm.api.keeper import NewModel
from localllm.closing import closing
from localllm.daemon.abilities import keeper_of
from localllm.daemon.dialect import KEEPING, LINES, Call, Endpoint, Reply, Returns
from localllm.daemon.native import json_reply
from localllm.daemon.native.blobs import endpoints, read_digest
from localllm.daemon.ollama.modelfile import parse_modelfile
from localllm.daemon.ollama.models import pulled
from localllm.daemon.ollama.options import read_options
from localllm.daemon.ollama.shapes import StatusLine
from localllm.daemon.ollama.shelf import find_info, leave_memory
from localllm.daemon.ollama.status import SUCCESS, StatusStream, status
from localllm.daemon.ollama.values import model_name
from localllm.daemon.sse import EventStream
from localllm.errors import InvalidRequestError

_MAX_LICENCE = 200
_FORBIDDEN = ("template", "adapters", "messages", "renderer", "parser", "quantize", "quantization", "draft_files")
_WHY = {
    "template": "a model keeps the template of its file",
    "adapters": "adapters are given to requests, or when a model is loaded",
    "messages": "a model keeps no conversation",
    "quantize": "send a file that is quantized already",
    "quantization": "send a file that is quantized already",
}


class CreateBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of /api/create. What a manifest cannot hold is read here to be refused by its name."""

    model: str | None = None
    name: str | None = None
    stream: bool | None = None
    modelfile: str | None = None
    source: str | None = msgspec.field(default=None, name="from")
    files: dict[str, str] | None = None
    system: str | None = None
    parameters: dict[str, Any] | None = None
    license: str | list[str] | None = None
    template: str | None = None
    adapters: dict[str, str] | None = None
    messages: list[Any] | None = None
    renderer: str | None = None
    parser: str | None = None
    quantize: str | None = None
    quantization: str | None = None
    draft_files: dict[str, str] | None = None
    remote_host: str | None = None


_create_decoder = msgspec.json.Decoder(CreateBody)


async def create(call: Call) -> Reply:
    """Make a model of another one, or of blobs."""
    body = await call.daemon.bodies.read_json(call.request, _create_decoder, any_type=True)
    new = new_model(body)
    keeper_of(call.daemon)
    events = _created(call, new)
    if body.stream is not False:
        return EventStream(events, StatusStream(), call.daemon.limits, eager=True)
    async with closing(events) as stream:
        async for _event in stream:
            pass
    return json_reply(SUCCESS)


def new_model(body: CreateBody) -> NewModel:
    """What a create body asks for. Raises InvalidRequestError for what cannot be kept, by its name."""
    is_text = body.modelfile is not None
    if is_text:
        fields = parse_modelfile(body.modelfile or "")
        given = {name: value for name in ("model", "name", "stream") if (value := getattr(body, name)) is not None}
        body = msgspec.convert({**fields, **given}, CreateBody)
    for name in (*_FORBIDDEN, "remote_host"):
        if getattr(body, name):
            raise InvalidRequestError(f"{name} cannot be kept", hint=_WHY.get(name), param=name)
    if body.source and body.files:
        raise InvalidRequestError("from and files both say what the model is made of", param="files")
    if not body.source and not body.files:
        raise InvalidRequestError("neither from nor files says what the model is made of", param="from")
    options = read_options(body.parameters, "parameters", is_text=is_text)
    if kept_by_nobody := (*options.ignored, *options.unknown):
        name = kept_by_nobody[0]
        raise InvalidRequestError(f"the parameter {name} cannot be kept", param=f"parameters.{name}")
    return NewModel(
        name=model_name(body.model or body.name),
        source=model_name(body.source, "from") if body.source else None,
        blobs=tuple((name, read_digest(digest, "files")) for name, digest in (body.files or {}).items()),
        system=body.system,
        sampling=options.sampling,
        num_ctx=options.num_ctx,
        licence=_licence(body.license),
    )


async def _created(call: Call, new: NewModel) -> AsyncIterator[Event]:
    """What is done to make a model, the base pulled where it is missing."""
    daemon = call.daemon
    if new.source is not None:
        daemon.check_model(new.source)
        if await find_info(daemon, new.source) is None:
            async for event in pulled(call, new.source):
                yield event
    with daemon.place(new.name, call.caller):
        info = await keeper_of(daemon).create(new)
        await leave_memory(daemon, info.name)
    yield status("reading model metadata")
    yield status(f"using already created layer {info.digest}")
    yield status("writing manifest")
    yield Finished("stop", Usage())


def _licence(given: str | list[str] | None) -> str | None:
    text = "\n".join(given) if isinstance(given, list) else given
    text = (text or "").strip()
    if "\n" in text or len(text) > _MAX_LICENCE:
        raise InvalidRequestError("the text of a license is not kept", hint="give its name", param="license")
    return text or None


_STATUS = (Returns(StatusLine), Returns(StatusLine, LINES))
ENDPOINTS = (
    Endpoint("POST", "/api/create", create, manages=True, body=CreateBody, returns=_STATUS, fails=KEEPING),
    *endpoints("/api/"),
)
