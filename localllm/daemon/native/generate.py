"""Routes that run a model: Backend's methods over HTTP. Thin: JSON to a request, events or an answer to JSON."""

from __future__ import annotations

from typing import Any

from localllm.api import (
    ChatRequest,
    CompletionRequest,
    Embeddings,
    EmbedRequest,
    Event,
    Ranking,
    Rendered,
    RerankRequest,
)
from localllm.daemon.dialect import EVENTS, MODEL, Call, Endpoint, Handler, Reply, Returns
from localllm.daemon.native.requests import (
    DetokenizeBody,
    InfillBody,
    TokenizeBody,
    read,
    read_request,
)
from localllm.daemon.native.shapes import TextOfTokens, Tokens
from localllm.daemon.native.values import EventsEncoder, json_reply
from localllm.daemon.sse import EventStream


async def chat(call: Call) -> Reply:
    """Answer a ChatRequest with its events."""
    return _stream(call, await read_request(call, ChatRequest))


async def complete(call: Call) -> Reply:
    """Answer a CompletionRequest with its events."""
    return _stream(call, await read_request(call, CompletionRequest))


async def infill(call: Call) -> Reply:
    """Fill the gap between two texts; answers with events."""
    body = await read(call, InfillBody)
    model = body.model or call.daemon.default_model
    request = CompletionRequest(model, body.prefix, body.sampling, suffix=body.suffix, keep_alive_s=body.keep_alive_s)
    return _stream(call, request)


def _stream(call: Call, request: ChatRequest | CompletionRequest) -> Reply:
    events = call.daemon.run(request, call.caller)
    return EventStream(events, EventsEncoder(), call.daemon.limits, eager=True)


async def render(call: Call) -> Reply:
    """The exact prompt of a ChatRequest, and its token ids."""
    request = await read_request(call, ChatRequest)
    with call.daemon.place(request.model, call.caller):
        return json_reply(await call.daemon.backend.render(request))


async def tokenize(call: Call) -> Reply:
    """Token ids of a text, without BOS."""
    body = await read(call, TokenizeBody)
    model = body.model or call.daemon.default_model
    with call.daemon.place(model, call.caller):
        tokens = await call.daemon.backend.tokenize(model, body.text, parse_special=body.parse_special)
    return json_reply({"model": model, "tokens": tokens})


async def detokenize(call: Call) -> Reply:
    """The text of token ids."""
    body = await read(call, DetokenizeBody)
    model = body.model or call.daemon.default_model
    with call.daemon.place(model, call.caller):
        return json_reply({"model": model, "text": await call.daemon.backend.detokenize(model, body.tokens)})


async def embed(call: Call) -> Reply:
    """The vectors of an EmbedRequest, each little-endian float32 in base64."""
    request = await read_request(call, EmbedRequest)
    with call.daemon.place(request.model, call.caller):
        return json_reply(await call.daemon.backend.embed(request))


async def rerank(call: Call) -> Reply:
    """The ranking of a RerankRequest."""
    request = await read_request(call, RerankRequest)
    with call.daemon.place(request.model, call.caller):
        return json_reply(await call.daemon.backend.rerank(request))


def _route(path: str, handler: Handler, body: Any, answer: Any) -> Endpoint:
    return Endpoint("POST", f"/api/localllm/{path}", handler, body=body, returns=(answer,), fails=MODEL)


_EVENTS = Returns(Event, EVENTS)
ENDPOINTS = (
    _route("chat", chat, ChatRequest, _EVENTS),
    _route("complete", complete, CompletionRequest, _EVENTS),
    _route("infill", infill, InfillBody, _EVENTS),
    _route("render", render, ChatRequest, Returns(Rendered)),
    _route("tokenize", tokenize, TokenizeBody, Returns(Tokens)),
    _route("detokenize", detokenize, DetokenizeBody, Returns(TextOfTokens)),
    _route("embed", embed, EmbedRequest, Returns(Embeddings)),
    _route("rerank", rerank, RerankRequest, Returns(Ranking)),
)
