"""Ollama's routes that run a model: generate, chat, embed, embeddings; and the ones by which clients find a server."""

from __future__ import annotations

import datetime
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.responses import PlainTextResponse

from localllm.api import ChatRequest, CompletionRequest, Event, Finished, Notice, Progress, TextDelta
from localllm.closing import closing
from localllm.daemon.dialect import LINES, MODEL, Call, Endpoint, Reply, Returns
from localllm.daemon.native import json_reply
from localllm.daemon.ollama import answers, requests
from localllm.daemon.ollama.answers import AnswerStream, Kind, Tally
from localllm.daemon.ollama.bodies import ChatBody, EmbedBody, EmbeddingBody, GenerateBody, GenerationBody
from localllm.daemon.ollama.keep_alive import keep_alive_s
from localllm.daemon.ollama.options import Options
from localllm.daemon.ollama.shapes import ChatAnswer, EmbedAnswer, EmbeddingAnswer, GenerateAnswer, Version
from localllm.daemon.ollama.shelf import find_info, is_loaded
from localllm.daemon.ollama.values import API_VERSION, model_name, notices_value
from localllm.daemon.sse import EventStream
from localllm.errors import InvalidRequestError, ModelNotFoundError

_generate_decoder = msgspec.json.Decoder(GenerateBody)
_chat_decoder = msgspec.json.Decoder(ChatBody)
_embed_decoder = msgspec.json.Decoder(EmbedBody)
_embedding_decoder = msgspec.json.Decoder(EmbeddingBody)


async def root(_call: Call) -> Reply:
    """What clients of this API look for to know that somebody is there."""
    return PlainTextResponse("Ollama is running")


async def version(call: Call) -> Reply:
    """The version of the API that is spoken; beside it our own."""
    return json_reply({"version": API_VERSION, "localllm": call.daemon.version})


async def generate(call: Call) -> Reply:
    """Answer one prompt; without a prompt, load or unload the model."""
    body = await call.daemon.bodies.read_json(call.request, _generate_decoder, any_type=True)
    requests.check_generate(body)
    if not body.prompt and not body.suffix:
        return await _load_only(call, body, "generate")
    options = requests.options_of(body)
    tally = Tally(notices=options.notices())
    if body.raw or body.suffix:
        request: ChatRequest | CompletionRequest = requests.raw_request(body, options, _new_id())
        if body.debug_render_only:
            return _rendered(body.model, "generate", body.prompt or "")
        return await _answer(call, _Job("generate", request, options, tally, body.stream is not False))
    await _check_thinking(call, body)
    chat = requests.generate_request(body, options, _new_id())
    if body.debug_render_only:
        return await _render(call, body, "generate", chat)
    request = chat
    if body.context:
        with call.daemon.place(chat.model, call.caller):
            # A model that is to leave at once must not leave between this and the answer.
            rendered = await call.daemon.backend.render(msgspec.structs.replace(chat, keep_alive_s=None))
        request = requests.continued_request(chat, tuple(body.context), rendered.tokens)
    return await _answer(call, _Job("generate", request, options, tally, body.stream is not False, True))


async def chat(call: Call) -> Reply:
    """Answer a conversation; without messages, load or unload the model."""
    body = await call.daemon.bodies.read_json(call.request, _chat_decoder, any_type=True)
    if not body.messages:
        return await _load_only(call, body, "chat")
    await _check_thinking(call, body)
    options = requests.options_of(body)
    request = requests.chat_request(body, options, _new_id())
    if body.debug_render_only:
        return await _render(call, body, "chat", request)
    tally = Tally(notices=options.notices())
    return await _answer(call, _Job("chat", request, options, tally, body.stream is not False))


async def embed(call: Call) -> Reply:
    """Texts to vectors."""
    began = time.monotonic_ns()
    daemon = call.daemon
    body = await daemon.bodies.read_json(call.request, _embed_decoder, any_type=True)
    request = requests.embed_request(body)
    notices = requests.options_of(body).notices()
    with daemon.place(request.model, call.caller):
        # A model that is to leave at once must not leave between its load and its work.
        load_ns = await _load(call, request.model, None if request.inputs else request.keep_alive_s)
        value: dict[str, Any] = {"model": request.model, "embeddings": []}
        if not request.inputs:
            return json_reply(value)
        made = await daemon.backend.embed(request)
    value["embeddings"] = list(made.floats())
    value |= {"total_duration": time.monotonic_ns() - began, "load_duration": load_ns}
    value["prompt_eval_count"] = sum(made.num_tokens)
    if made.num_truncated:
        text = f"{made.num_truncated} of {len(request.inputs)} inputs were too long and lost their end"
        notices.append(Notice("truncated", text, {"num_truncated": made.num_truncated}))
    return json_reply(value | notices_value(notices))


async def embeddings(call: Call) -> Reply:
    """One text to a vector."""
    daemon = call.daemon
    body = await daemon.bodies.read_json(call.request, _embedding_decoder, any_type=True)
    request = requests.embedding_request(body)
    requests.options_of(body)
    with daemon.place(request.model, call.caller):
        if not request.inputs:
            await _load(call, request.model, request.keep_alive_s)
            return json_reply({"embedding": []})
        made = await daemon.backend.embed(request)
    return json_reply({"embedding": made.floats()[0]})


# --- answers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Job:
    """A request on its way. `gives_context`: its tokens are given back with the answer."""

    kind: Kind
    request: ChatRequest | CompletionRequest
    options: Options
    tally: Tally
    streams: bool
    gives_context: bool = False


async def _answer(call: Call, job: _Job) -> Reply:
    """Run a request."""
    daemon, request, tally = call.daemon, job.request, job.tally
    began = time.monotonic_ns()

    async def at_end(text: str) -> None:
        if job.gives_context:
            tally.context = await _context(call, request, text)
        if job.options.num_ctx is not None:
            tally.notices += await _room(call, request.model, job.options.num_ctx)

    events = _watched(daemon.run(request, call.caller), tally, began, at_end)
    if job.streams:
        return EventStream(events, AnswerStream(request.model, job.kind, tally, _now), daemon.limits)
    async with closing(events) as stream:
        gathered = [event async for event in stream]
    return json_reply(answers.whole(request.model, job.kind, gathered, tally, _now))


async def _watched(
    events: AsyncIterator[Event], tally: Tally, began: int, at_end: Callable[[str], Awaitable[None]]
) -> AsyncIterator[Event]:
    """The events, while `tally` is filled in. `at_end` is given the answer's text before its end is passed on."""
    texts: list[str] = []
    async with closing(events) as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                texts.append(event.text)
            elif isinstance(event, Progress):
                tally.load_ns = time.monotonic_ns() - began
            elif isinstance(event, Finished):
                tally.total_ns = time.monotonic_ns() - began
                await at_end("".join(texts))
            yield event


async def _context(call: Call, request: ChatRequest | CompletionRequest, text: str) -> list[int]:
    """The tokens of a prompt and its answer."""
    backend = call.daemon.backend
    if isinstance(request, ChatRequest):
        prompt = (await backend.render(request)).tokens
    else:
        assert not isinstance(request.prompt, str)
        prompt = request.prompt
    return [*prompt, *(await backend.tokenize(request.model, text))]


async def _room(call: Call, model: str, num_ctx: int) -> list[Notice]:
    """What to say to a client that counts on more context than the loaded model has."""
    for loaded in await call.daemon.backend.list_loaded():
        if is_loaded(loaded, await find_info(call.daemon, model), model) and loaded.num_ctx < num_ctx:
            text = f"num_ctx {num_ctx} was asked for, the model has room for {loaded.num_ctx} tokens"
            return [Notice("num_ctx", text, {"num_ctx": loaded.num_ctx, "wanted": num_ctx})]
    return []


async def _check_thinking(call: Call, body: GenerationBody) -> None:
    """Refuse to let a model think that is known not to."""
    if not body.think:
        return
    name = model_name(body.model)
    info = await find_info(call.daemon, name)
    if info is not None and info.capabilities and "thinking" not in info.capabilities:
        raise InvalidRequestError(f'"{name}" does not support thinking', param="think")


async def _render(call: Call, body: GenerationBody, kind: Kind, request: ChatRequest) -> Reply:
    with call.daemon.place(request.model, call.caller):
        rendered = await call.daemon.backend.render(request)
    return _rendered(body.model, kind, rendered.prompt)


def _rendered(model: str | None, kind: Kind, prompt: str) -> Reply:
    value = {"model": model, "created_at": _now(), **answers.piece(kind), "done": False}
    return json_reply(value | {"_debug_info": {"rendered_template": prompt}})


# --- loading ------------------------------------------------------------------------------------------------------


async def _load_only(call: Call, body: GenerationBody, kind: Kind) -> Reply:
    """Load the model, or with `keep_alive` 0 unload it."""
    name = model_name(body.model)
    keep_s = keep_alive_s(body.keep_alive)
    with call.daemon.place(name, call.caller):
        if keep_s == 0:
            await _unload(call, name)
        else:
            await _load(call, name, keep_s)
    return json_reply(answers.ended_value(name, kind, _now, "unload" if keep_s == 0 else "load"))


async def _load(call: Call, model: str, keep_s: float | None) -> int:
    """Have a model in memory; returns the nanoseconds that took, 0 where it was there."""
    began, is_new = time.monotonic_ns(), False
    async for news in call.daemon.backend.load(model, keep_alive_s=keep_s):
        is_new = is_new or isinstance(news, Progress)
    return time.monotonic_ns() - began if is_new else 0


async def _unload(call: Call, model: str) -> None:
    """Give a model's memory back; one that is installed and not loaded is no error."""
    try:
        await call.daemon.backend.unload(model)
    except ModelNotFoundError:
        if await find_info(call.daemon, model) is None:
            raise


def _new_id() -> str:
    return f"ollama-{secrets.token_hex(12)}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")


_GENERATED = (Returns(GenerateAnswer), Returns(GenerateAnswer, LINES))
_CHATTED = (Returns(ChatAnswer), Returns(ChatAnswer, LINES))
_EMBEDDED = (Returns(EmbedAnswer),)
_ONE_EMBEDDED = (Returns(EmbeddingAnswer),)
ENDPOINTS = (
    Endpoint("GET", "/", root, returns=(Returns(media="text/plain"),)),
    Endpoint("GET", "/api/version", version, returns=(Returns(Version),)),
    Endpoint("POST", "/api/generate", generate, body=GenerateBody, returns=_GENERATED, fails=MODEL),
    Endpoint("POST", "/api/chat", chat, body=ChatBody, returns=_CHATTED, fails=MODEL),
    Endpoint("POST", "/api/embed", embed, body=EmbedBody, returns=_EMBEDDED, fails=MODEL),
    Endpoint("POST", "/api/embeddings", embeddings, body=EmbeddingBody, returns=_ONE_EMBEDDED, fails=MODEL),
)
