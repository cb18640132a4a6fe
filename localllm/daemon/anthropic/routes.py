"""The routes of Anthropic's API: body to request, run, events to answer. `anthropic-version` may be any."""

from __future__ import annotations

import secrets

import msgspec

from localllm.closing import closing
from localllm.daemon.anthropic.answers import MessageStream, message
from localllm.daemon.anthropic.requests import CountBody, MessagesBody, chat_request
from localllm.daemon.anthropic.shapes import (
    Error,
    InputTokens,
    MessageEvent,
    MessageValue,
    Model,
    ModelPage,
    PageQuery,
)
from localllm.daemon.anthropic.values import error_body, model_page, model_value, status_of
from localllm.daemon.dialect import EVENTS, MODEL, Call, Dialect, Endpoint, Reply, Returns
from localllm.daemon.errors import HttpError
from localllm.daemon.native import json_reply
from localllm.daemon.sse import EventStream
from localllm.errors import InvalidRequestError

_messages_decoder = msgspec.json.Decoder(MessagesBody)
_count_decoder = msgspec.json.Decoder(CountBody)
_MAX_PAGE = 1000
_VERSION = "anthropic-version"


async def messages(call: Call) -> Reply:
    """Answer a conversation."""
    daemon = call.daemon
    body = await daemon.bodies.read_json(call.request, _messages_decoder)
    message_id = f"msg_{secrets.token_hex(12)}"
    request = chat_request(body, daemon.default_model, message_id)
    events = daemon.run(request, call.caller)
    if body.stream:
        return EventStream(events, MessageStream(message_id, request.model), daemon.limits)
    async with closing(events) as stream:
        gathered = [event async for event in stream]
    return json_reply(message(message_id, request.model, gathered))


async def count_tokens(call: Call) -> Reply:
    """How many tokens a conversation's prompt has: it is rendered and tokenized as if it were answered."""
    daemon = call.daemon
    body = await daemon.bodies.read_json(call.request, _count_decoder)
    request = chat_request(body, daemon.default_model)
    with daemon.place(request.model, call.caller):
        rendered = await daemon.backend.render(request)
    return json_reply({"input_tokens": len(rendered.tokens)})


async def list_models(call: Call) -> Reply:
    """The installed models."""
    query = call.request.query_params
    try:
        limit = int(query.get("limit", 20))
    except ValueError as exc:
        raise InvalidRequestError("limit is no number", param="limit") from exc
    if not 1 <= limit <= _MAX_PAGE:
        raise InvalidRequestError(f"limit is {limit}", hint=f"it lies between 1 and {_MAX_PAGE}", param="limit")
    models = await call.daemon.backend.list_models()
    return json_reply(model_page(models, limit, query.get("after_id"), query.get("before_id")))


async def show_model(call: Call) -> Reply:
    """One installed model."""
    wanted = call.request.path_params["id"]
    for model in await call.daemon.backend.list_models():
        if model.name == wanted:
            return json_reply(model_value(model))
    raise HttpError(404, "model_not_found", f"no model {wanted}", hint="/v1/models lists what is installed")


_MESSAGES = (Returns(MessageValue), Returns(MessageEvent, EVENTS))
_MODEL = (Returns(Model),)
DIALECT = Dialect(
    "anthropic",
    "/v1/messages",
    (
        Endpoint("POST", "/v1/messages", messages, body=MessagesBody, returns=_MESSAGES, fails=MODEL),
        Endpoint(
            "POST",
            "/v1/messages/count_tokens",
            count_tokens,
            body=CountBody,
            returns=(Returns(InputTokens),),
            fails=MODEL,
        ),
        Endpoint("GET", "/v1/models", list_models, header=_VERSION, query=PageQuery, returns=(Returns(ModelPage),)),
        Endpoint("GET", "/v1/models/{id:path}", show_model, header=_VERSION, returns=_MODEL, fails=(404,)),
    ),
    error_body,
    status_of,
    error_type=Error,
    more_statuses=(529,),
)
