"""One line of a batch: what it must be, and its answer. The same translations as the routes, with nobody waiting."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from localllm.api import ChatRequest, CompletionRequest, Event
from localllm.closing import closing
from localllm.daemon import fanout
from localllm.daemon.body import decode
from localllm.daemon.context import Daemon
from localllm.daemon.guard import Caller
from localllm.daemon.openai import answers, vectors
from localllm.daemon.openai.bodies import ChatBody, CompletionBody
from localllm.daemon.openai.requests import chat_request, completion_requests
from localllm.daemon.openai.responses import requests as responses
from localllm.daemon.openai.responses.items import Item, input_items
from localllm.daemon.openai.responses.transcript import Transcript
from localllm.daemon.openai.values import Head
from localllm.errors import InvalidRequestError

# Behind everybody who waits: their requests have 0. Now and then a line is one of theirs.
BEHIND = -50
IN_TURN = 0
_chat = msgspec.json.Decoder(ChatBody)
_completion = msgspec.json.Decoder(CompletionBody)
_embedding = msgspec.json.Decoder(vectors.EmbeddingBody)
_response = msgspec.json.Decoder(responses.ResponseBody)


class Line(msgspec.Struct, frozen=True):
    """One request of a batch's input file."""

    custom_id: Annotated[str, Meta(min_length=1, max_length=512)]
    method: str
    url: str
    body: msgspec.Raw


line_decoder = msgspec.json.Decoder(Line)


@dataclass(frozen=True, slots=True)
class Asker:
    """On whose behalf a line is asked, and with which priority."""

    daemon: Daemon
    caller: Caller
    priority: int = BEHIND


async def answer(asker: Asker, line: Line) -> dict[str, Any]:
    """The body that answers a line. Raises LocalLLMError."""
    return await ENDPOINTS[line.url](asker, bytes(line.body))


async def _answer_chat(asker: Asker, raw: bytes) -> dict[str, Any]:
    body = decode(raw, _chat)
    head = _head("chatcmpl-", body.model or asker.daemon.default_model)
    events = await _run(asker, [chat_request(body, asker.daemon.default_model, head.id)])
    return answers.chat_completion(head, events, logprobs=bool(body.logprobs))


async def _answer_completion(asker: Asker, raw: bytes) -> dict[str, Any]:
    body = decode(raw, _completion)
    if body.echo:
        raise InvalidRequestError("echo is not offered in a batch", param="echo")
    head = _head("cmpl-", body.model or asker.daemon.default_model)
    requests = completion_requests(body, asker.daemon.default_model, head.id)
    events = await _run(asker, requests, body.n or 1)
    return answers.completion(head, events, logprobs=body.logprobs is not None, echoes=())


async def _answer_embedding(asker: Asker, raw: bytes) -> dict[str, Any]:
    body = decode(raw, _embedding)
    request = vectors.embed_request(body, asker.daemon.default_model)
    with asker.daemon.place(request.model, asker.caller):
        made = await asker.daemon.backend.embed(request)
    return vectors.embedding_list(request.model, made, body.encoding_format)


async def _answer_response(asker: Asker, raw: bytes) -> dict[str, Any]:
    body = msgspec.structs.replace(decode(raw, _response), store=False)
    if body.previous_response_id is not None or body.background:
        param = "previous_response_id" if body.previous_response_id is not None else "background"
        raise InvalidRequestError(f"{param} is not offered in a batch", param=param)
    head = _head("resp_", body.model or asker.daemon.default_model)
    items = msgspec.convert(input_items(body.input, head.id), list[Item])
    request = responses.chat_request(body, items, asker.daemon.default_model, head.id)
    value = responses.response_head(body, head.id, head.created, asker.daemon.default_model)
    transcript = Transcript(value, time.time, summarize=body.summarizes, logprobs=body.wants_logprobs)
    transcript.log = None
    for event in await _run(asker, [request]):
        transcript.take(event)
    return transcript.response


ENDPOINTS: dict[str, Callable[[Asker, bytes], Awaitable[dict[str, Any]]]] = {
    "/v1/chat/completions": _answer_chat,
    "/v1/completions": _answer_completion,
    "/v1/embeddings": _answer_embedding,
    "/v1/responses": _answer_response,
}


async def _run(asker: Asker, requests: Sequence[ChatRequest | CompletionRequest], num_choices: int = 1) -> list[Event]:
    placed = [msgspec.structs.replace(request, priority=asker.priority) for request in requests]
    streams = [asker.daemon.run(request, asker.caller) for request in placed]
    events = streams[0] if len(streams) == 1 else fanout.together(streams, num_choices)
    async with closing(events) as stream:
        return [event async for event in stream]


def _head(prefix: str, model: str) -> Head:
    return Head(prefix + secrets.token_hex(12), int(time.time()), model)
