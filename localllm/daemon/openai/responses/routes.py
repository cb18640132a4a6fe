"""The routes of responses."""

from __future__ import annotations

import secrets
import time
from typing import Any

import msgspec
from starlette.datastructures import QueryParams

from localllm.api import ChatRequest
from localllm.daemon.dialect import EVENTS, MODEL, Call, Endpoint, Reply, Returns
from localllm.daemon.errors import HttpError
from localllm.daemon.native import json_reply
from localllm.daemon.openai.responses.items import Item, input_items
from localllm.daemon.openai.responses.requests import ResponseBody, chat_request, response_head
from localllm.daemon.openai.responses.runs import PieceEncoder, Responses, Run
from localllm.daemon.openai.responses.shapes import ItemList, Response, ResponseEvent, ShowQuery
from localllm.daemon.openai.responses.store import Stored
from localllm.daemon.openai.responses.transcript import Transcript
from localllm.daemon.openai.shapes import Deleted, InputTokens, PageQuery
from localllm.daemon.sse import EventStream
from localllm.errors import InvalidRequestError

_decoder = msgspec.json.Decoder(ResponseBody)
_MAX_PAGE = 100


async def create(call: Call) -> Reply:
    """Answer; whole, as a stream, or in the background."""
    daemon, owner = call.daemon, call.caller.key
    part = daemon.part(Responses)
    body = await daemon.bodies.read_json(call.request, _decoder)
    stem = secrets.token_hex(12)
    response_id, created = f"resp_{stem}", time.time()
    request, own = await _request(part, body, owner, stem, daemon.default_model)
    status = "queued" if body.background else "in_progress"
    head = response_head(body, response_id, int(created), daemon.default_model, status=status)
    transcript = Transcript(head, time.time, summarize=body.summarizes, logprobs=body.wants_logprobs)
    stored = Stored(response_id, owner, created, body.previous_response_id, head, own) if body.is_stored else None
    run = Run(transcript, owner, stored, keeps_log=bool(body.stream) and body.is_stored)
    events = daemon.run(request, call.caller)
    if body.background:
        await part.start(run, events)
        if body.stream:
            return EventStream(_any(run.follow(-1)), PieceEncoder(), daemon.limits)
        return json_reply(transcript.response)
    pieces = part.pieces(run, events)
    if body.stream:
        return EventStream(_any(pieces), PieceEncoder(transcript), daemon.limits)
    async for _piece in pieces:
        pass
    return json_reply(transcript.response)


async def input_tokens(call: Call) -> Reply:
    """How many tokens a response's prompt has, without running it."""
    daemon = call.daemon
    body = await daemon.bodies.read_json(call.request, _decoder)
    request, _own = await _request(daemon.part(Responses), body, call.caller.key, "count", daemon.default_model)
    with daemon.place(request.model, call.caller):
        rendered = await daemon.backend.render(request)
    return json_reply({"object": "response.input_tokens", "input_tokens": len(rendered.tokens)})


async def show(call: Call) -> Reply:
    """A stored response: what it is by now, or its events behind a number as a stream."""
    part, owner = call.daemon.part(Responses), call.caller.key
    response_id, query = call.request.path_params["id"], call.request.query_params
    wants_stream = query.get("stream", "").lower() in ("true", "1")
    after = _number(query, "starting_after", -1, 2**62)
    run = part.mine(response_id, owner)
    if run is None:
        stored = await part.store.get(response_id, owner)
        if not wants_stream:
            return json_reply(stored.response)
        if stored.log is None:
            raise InvalidRequestError("this response was not made with stream=true", param="stream")
        run = Run(Transcript(stored.response, time.time), owner, None, keeps_log=True)
        run.transcript.log, run.is_over = stored.log, True
    elif not wants_stream:
        return json_reply(run.transcript.response)
    elif run.transcript.log is None:
        raise InvalidRequestError("this response was not made with stream=true", param="stream")
    return EventStream(_any(run.follow(after)), PieceEncoder(), call.daemon.limits)


async def delete(call: Call) -> Reply:
    """Forget a response; one under way ends."""
    part, owner = call.daemon.part(Responses), call.caller.key
    response_id = call.request.path_params["id"]
    run = part.mine(response_id, owner)
    if run is not None:
        if run.task is None:
            raise HttpError(409, "response_in_progress", "this response is under way; its client can end it")
        await part.cancel(run)
    await part.store.delete(response_id, owner)
    return json_reply({"id": response_id, "object": "response", "deleted": True})


async def cancel(call: Call) -> Reply:
    """End a response in the background; one that is over stays as it is."""
    part, owner = call.daemon.part(Responses), call.caller.key
    response_id = call.request.path_params["id"]
    run = part.mine(response_id, owner)
    if run is not None and run.task is not None:
        await part.cancel(run)
        return json_reply(run.transcript.response)
    response = run.transcript.response if run is not None else (await part.store.get(response_id, owner)).response
    if not response["background"]:
        raise InvalidRequestError("only responses made with background=true can be cancelled", param="background")
    return json_reply(response)


async def list_items(call: Call) -> Reply:
    """The input of a response: what it went on from, and its own; the last first unless asked otherwise."""
    part, owner = call.daemon.part(Responses), call.caller.key
    response_id, query = call.request.path_params["id"], call.request.query_params
    *before, last = await part.store.chain(response_id, owner)
    items = [*_said(before), *last.items]
    if query.get("order", "desc") != "asc":
        items.reverse()
    ids = [item["id"] for item in items]
    start = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
    page = items[start : start + _number(query, "limit", 20, _MAX_PAGE)]
    return json_reply(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": start + len(page) < len(items),
        }
    )


async def _request(
    part: Responses, body: ResponseBody, owner: str, stem: str, default_model: str
) -> tuple[ChatRequest, list[dict[str, Any]]]:
    """What is asked for, and the input items that are its own."""
    previous = body.previous_response_id
    if previous is not None and part.mine(previous, owner) is not None:
        raise InvalidRequestError("the previous response is not finished", param="previous_response_id")
    chain = await part.store.chain(previous, owner) if previous is not None else []
    given = body.input if isinstance(body.input, str) else [await _resolved(part, i, owner) for i in body.input]
    own = input_items(given, stem) if given else []
    if not own and not chain:
        raise InvalidRequestError("there is no input", param="input")
    items = msgspec.convert([*_said(chain), *own], list[Item])
    return chat_request(body, items, default_model, None if stem == "count" else f"resp_{stem}"), own


async def _resolved(part: Responses, item: Item, owner: str) -> Item:
    """The item that a reference names: an item's id tells the response it belongs to."""
    if item.type != "item_reference" and (item.type is not None or item.id is None or item.content is not None):
        return item
    stem = (item.id or "").partition("_")[2].partition("_")[0]
    stored = await part.store.get(f"resp_{stem}", owner)
    for known in (*stored.items, *stored.response["output"]):
        if known["id"] == item.id:
            return msgspec.convert(known, Item)
    raise HttpError(404, "item_not_found", f"no item {item.id}", param="input")


def _said(chain: list[Stored]) -> list[dict[str, Any]]:
    return [item for stored in chain for item in (*stored.items, *stored.response["output"])]


def _number(query: QueryParams, name: str, default: int, most: int) -> int:
    given = query.get(name)
    if given is None:
        return default
    if not given.isascii() or not given.isdigit() or len(given) > 19 or int(given) > most:
        raise InvalidRequestError(f"{name} is a number from 0 to {most}", param=name)
    return int(given)


def _any(pieces: Any) -> Any:
    """Events that are bytes: a stream passes them on without looking."""
    return pieces


_COUNT = (Returns(InputTokens),)
_RESPONSE = Returns(Response)
_EITHER = (_RESPONSE, Returns(ResponseEvent, EVENTS))
_ONE = "/v1/responses/{id}"
ENDPOINTS = (
    Endpoint("POST", "/v1/responses", create, body=ResponseBody, returns=_EITHER, fails=MODEL),
    Endpoint("POST", "/v1/responses/input_tokens", input_tokens, body=ResponseBody, returns=_COUNT, fails=MODEL),
    Endpoint("GET", _ONE, show, query=ShowQuery, returns=_EITHER, fails=(404,)),
    Endpoint("DELETE", _ONE, delete, returns=(Returns(Deleted),), fails=(404, 409)),
    Endpoint("POST", f"{_ONE}/cancel", cancel, returns=(_RESPONSE,), fails=(404,)),
    Endpoint("GET", f"{_ONE}/input_items", list_items, query=PageQuery, returns=(Returns(ItemList),), fails=(404,)),
)
