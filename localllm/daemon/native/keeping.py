"""Routes about models on disk and to be had: the keeper's methods and the finder's over HTTP."""

from __future__ import annotations

from localllm.api import ModelInfo, check_sampling
from localllm.api.finder import Offer
from localllm.api.keeper import ModelDetails, NewModel
from localllm.daemon.abilities import finder_of, keeper_of
from localllm.daemon.dialect import KEEPING, Call, Endpoint, Reply, Returns
from localllm.daemon.native.blobs import read_digest
from localllm.daemon.native.requests import CopyBody, DetailsBody, ModelBody, read
from localllm.daemon.native.shapes import CatalogueQuery, Copied, Offers, Removed
from localllm.daemon.native.values import json_reply
from localllm.errors import InvalidRequestError

MAX_LICENCE = 200


async def info(call: Call) -> Reply:
    """What listings show of one installed model."""
    body = await read(call, ModelBody)
    call.daemon.check_model(body.model)
    return json_reply(await keeper_of(call.daemon).info(body.model))


async def details(call: Call) -> Reply:
    """All that is known of an installed model, read from the headers of its files."""
    body = await read(call, DetailsBody)
    call.daemon.check_model(body.model)
    return json_reply(await keeper_of(call.daemon).details(body.model, tensors=body.tensors))


async def copy(call: Call) -> Reply:
    """Give a model a second name."""
    body = await read(call, CopyBody)
    call.daemon.check_model(body.source)
    await keeper_of(call.daemon).copy(body.source, body.target)
    return json_reply({"source": body.source, "target": body.target})


async def remove(call: Call) -> Reply:
    """Take a model out of the store; one that a process runs stays, and that is the error."""
    body = await read(call, ModelBody)
    call.daemon.check_model(body.model)
    await keeper_of(call.daemon).remove(body.model)
    return json_reply({"model": body.model})


async def create(call: Call) -> Reply:
    """Make a model of an installed one, or of blobs in the store; one of that name is replaced."""
    body = await read(call, NewModel)
    _check_new(call, body)
    with call.daemon.place(body.name, call.caller):
        return json_reply(await keeper_of(call.daemon).create(body))


def _check_new(call: Call, new: NewModel) -> None:
    """Raise for what a client may not make."""
    if new.source is not None:
        call.daemon.check_model(new.source)
    for _filename, digest in new.blobs:
        read_digest(digest, "blobs")
    check_sampling(new.sampling)
    if new.num_ctx is not None and new.num_ctx < 1:
        raise InvalidRequestError(f"num_ctx is {new.num_ctx}", hint="num_ctx is at least 1", param="num_ctx")
    if new.licence is not None and len(new.licence) > MAX_LICENCE:
        raise InvalidRequestError("the text of a licence is not kept", hint="give its name", param="licence")


async def catalogue(call: Call) -> Reply:
    """The models one may pull, each with whether it fits the daemon's machine and how fast it would be there."""
    query = call.request.query_params.get("query", "")
    return json_reply({"offers": await finder_of(call.daemon).catalogue(query)})


async def offer(call: Call) -> Reply:
    """One model, installed or of the catalogue, judged likewise."""
    body = await read(call, ModelBody)
    call.daemon.check_model(body.model)
    return json_reply(await finder_of(call.daemon).offer(body.model))


def _path(name: str) -> str:
    return f"/api/localllm/{name}"


ENDPOINTS = (
    Endpoint("POST", _path("info"), info, body=ModelBody, returns=(Returns(ModelInfo),), fails=KEEPING),
    Endpoint("POST", _path("details"), details, body=DetailsBody, returns=(Returns(ModelDetails),), fails=KEEPING),
    Endpoint("POST", _path("copy"), copy, manages=True, body=CopyBody, returns=(Returns(Copied),), fails=KEEPING),
    Endpoint("POST", _path("remove"), remove, manages=True, body=ModelBody, returns=(Returns(Removed),), fails=KEEPING),
    Endpoint(
        "POST", _path("create"), create, manages=True, body=NewModel, returns=(Returns(ModelInfo),), fails=KEEPING
    ),
    Endpoint("GET", _path("catalogue"), catalogue, query=CatalogueQuery, returns=(Returns(Offers),), fails=(501,)),
    Endpoint("POST", _path("offer"), offer, body=ModelBody, returns=(Returns(Offer),), fails=KEEPING),
)
