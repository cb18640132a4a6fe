"""Ollama's routes that make models: create, from a JSON body or a Modelfile, and the blobs a body may name."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from localllm.api import Event, Finished, Usage
from localllm.api.keeper import NewModel
from localllm.closing import closing
from localllm.daemon.dialect import KEEPING, LINES, Call, Endpoint, Reply, Returns
from localllm.daemon.errors import ClientGoneError, HttpError
from localllm.daemon.native import json_reply
from localllm.daemon.ollama.modelfile import parse_modelfile
from localllm.daemon.ollama.models import pulled
from localllm.daemon.ollama.options import read_options
from localllm.daemon.ollama.shapes import StatusLine
from localllm.daemon.ollama.shelf import find_info, keeper_of, leave_memory
from localllm.daemon.ollama.status import SUCCESS, StatusStream, status
from localllm.daemon.ollama.values import model_name
from localllm.daemon.sse import EventStream
from localllm.errors import InvalidRequestError

_DIGEST = re.compile(r"sha256[:-](?P<hex>[0-9a-f]{64})")
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


async def has_blob(call: Call) -> Reply:
    """200 where the bytes are in the store, else 404."""
    digest = _digest(call.request.path_params["digest"], "digest")
    if not await keeper_of(call.daemon).has_blob(digest):
        raise HttpError(404, "blob_not_found", f"no blob {digest}")
    return Response()


async def put_blob(call: Call) -> Reply:
    """Take bytes into the store: 201, or 200 where they were there."""
    call.daemon.check_open()
    digest = _digest(call.request.path_params["digest"], "digest")
    length = call.request.headers.get("content-length")
    with call.daemon.admission.place(call.caller.key):
        size_bytes = int(length) if length is not None else None
        is_new = await keeper_of(call.daemon).put_blob(digest, _pieces(call.request), size_bytes)
    return Response(status_code=201 if is_new else 200)


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
        blobs=tuple((name, _digest(digest, "files")) for name, digest in (body.files or {}).items()),
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


def _digest(text: str, param: str) -> str:
    found = _DIGEST.fullmatch(text)
    if found is None:
        hint = "it is sha256: and 64 lower-case hex digits"
        raise InvalidRequestError(f"{text[:80]!r} is no digest", hint=hint, param=param)
    return f"sha256:{found['hex']}"


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises ClientGoneError when the rest will not."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


_STATUS = (Returns(StatusLine), Returns(StatusLine, LINES))
ENDPOINTS = (
    Endpoint("POST", "/api/create", create, manages=True, body=CreateBody, returns=_STATUS, fails=KEEPING),
    Endpoint("HEAD", "/api/blobs/{digest}", has_blob, returns=(Returns(media=""),), fails=(404, 501)),
    Endpoint(
        "POST",
        "/api/blobs/{digest}",
        put_blob,
        manages=True,
        body=bytes,
        body_media="application/octet-stream",
        returns=(Returns(media=""), Returns(media="", status=201)),
        fails=KEEPING,
    ),
)
