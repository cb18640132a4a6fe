"""The routes of OpenAI's API: body to request, run, events to answer."""

from __future__ import annotations

import datetime
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from localllm.api import CompletionRequest, Event, ModelInfo
from localllm.closing import closing
from localllm.daemon import fanout
from localllm.daemon.dialect import EVENTS, MODEL, Call, Dialect, Endpoint, Reply, Returns
from localllm.daemon.errors import HttpError
from localllm.daemon.native import json_reply
from localllm.daemon.openai import answers, batches, chunks, responses, vectors
from localllm.daemon.openai.bodies import ChatBody, CompletionBody
from localllm.daemon.openai.requests import chat_request, completion_requests
from localllm.daemon.openai.shapes import (
    ChatAnswer,
    ChatChunk,
    CompletionAnswer,
    CompletionChunk,
    Error,
    InputTokens,
    Model,
    ModelList,
)
from localllm.daemon.openai.values import Head, error_body
from localllm.daemon.sse import EventStream

_chat_decoder = msgspec.json.Decoder(ChatBody)
_completion_decoder = msgspec.json.Decoder(CompletionBody)


async def chat_completions(call: Call) -> Reply:
    """Answer a conversation."""
    daemon = call.daemon
    body = await daemon.bodies.read_json(call.request, _chat_decoder)
    head = _head("chatcmpl-", body.model or daemon.default_model)
    request = chat_request(body, daemon.default_model, head.id)
    events = daemon.run(request, call.caller)
    if body.stream:
        encoder = chunks.ChatStream(head, include_usage=_wants_usage(body))
        return EventStream(events, encoder, daemon.limits)
    return json_reply(answers.chat_completion(head, await _all(events), logprobs=bool(body.logprobs)))


async def input_tokens(call: Call) -> Reply:
    """How many tokens a chat's prompt has, without running it."""
    daemon = call.daemon
    body = await daemon.bodies.read_json(call.request, _chat_decoder)
    request = chat_request(body, daemon.default_model)
    with daemon.place(request.model, call.caller):
        rendered = await daemon.backend.render(request)
    return json_reply({"object": "response.input_tokens", "input_tokens": len(rendered.tokens)})


async def completions(call: Call) -> Reply:
    """Continue one prompt or several."""
    daemon = call.daemon
    body = await daemon.bodies.read_json(call.request, _completion_decoder)
    head = _head("cmpl-", body.model or daemon.default_model)
    requests = completion_requests(body, daemon.default_model, head.id)
    num_choices = body.n or 1
    streams = [daemon.run(request, call.caller) for request in requests]
    echoes = await _echoes(call, requests, num_choices) if body.echo else ()
    events = streams[0] if len(streams) == 1 else fanout.together(streams, num_choices)
    if body.stream:
        encoder = chunks.CompletionStream(head, include_usage=_wants_usage(body), echoes=echoes)
        return EventStream(events, encoder, daemon.limits)
    gathered = await _all(events)
    return json_reply(answers.completion(head, gathered, logprobs=body.logprobs is not None, echoes=echoes))


async def list_models(call: Call) -> Reply:
    """The installed models."""
    models = await call.daemon.backend.list_models()
    return json_reply({"object": "list", "data": [_model(model) for model in models]})


async def show_model(call: Call) -> Reply:
    """One installed model."""
    wanted = call.request.path_params["id"]
    for model in await call.daemon.backend.list_models():
        if model.name == wanted:
            return json_reply(_model(model))
    raise HttpError(404, "model_not_found", f"no model {wanted}", hint="/v1/models lists what is installed")


async def _all(events: AsyncIterator[Event]) -> list[Event]:
    async with closing(events) as stream:
        return [event async for event in stream]


async def _echoes(call: Call, requests: Sequence[CompletionRequest], num_choices: int) -> list[str]:
    """The prompt of each choice as text."""
    texts = []
    for request in requests:
        prompt = request.prompt
        text = prompt if isinstance(prompt, str) else await call.daemon.backend.detokenize(request.model, prompt)
        texts += [text] * num_choices
    return texts


def _head(prefix: str, model: str) -> Head:
    return Head(prefix + secrets.token_hex(12), int(time.time()), model)


def _wants_usage(body: ChatBody | CompletionBody) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage


def _model(model: ModelInfo) -> dict[str, Any]:
    try:
        created = int(datetime.datetime.fromisoformat(model.modified).timestamp())
    except ValueError:
        created = 0
    return {"id": model.name, "object": "model", "created": created, "owned_by": "localllm"}


_CHAT = (Returns(ChatAnswer), Returns(ChatChunk, EVENTS))
_COMPLETION = (Returns(CompletionAnswer), Returns(CompletionChunk, EVENTS))
_COUNT = (Returns(InputTokens),)
DIALECT = Dialect(
    "openai",
    "/",
    (
        Endpoint("POST", "/v1/chat/completions", chat_completions, body=ChatBody, returns=_CHAT, fails=MODEL),
        Endpoint("POST", "/v1/chat/completions/input_tokens", input_tokens, body=ChatBody, returns=_COUNT, fails=MODEL),
        Endpoint("POST", "/v1/completions", completions, body=CompletionBody, returns=_COMPLETION, fails=MODEL),
        *vectors.ENDPOINTS,
        *responses.ENDPOINTS,
        *batches.ENDPOINTS,
        Endpoint("GET", "/v1/models", list_models, returns=(Returns(ModelList),)),
        Endpoint("GET", "/v1/models/{id:path}", show_model, returns=(Returns(Model),), fails=(404,)),
    ),
    error_body,
    start=batches.start,
    error_type=Error,
)
