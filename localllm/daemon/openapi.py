"""The OpenAPI document of all dialects, made from their routes and the very types their bodies are read with."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from localllm.api import (
    ChatRequest,
    CompletionRequest,
    Control,
    Embeddings,
    EmbedRequest,
    Event,
    LoadedModel,
    ModelInfo,
    Ranking,
    Rendered,
    RerankRequest,
    RunningRequest,
    Status,
)
from localllm.daemon.anthropic import requests as anthropic
from localllm.daemon.dialect import Call, Dialect, Endpoint, Reply
from localllm.daemon.limits import Limits
from localllm.daemon.native import error_body, json_reply
from localllm.daemon.native import requests as native
from localllm.daemon.ollama import bodies as ollama
from localllm.daemon.ollama.making import CreateBody
from localllm.daemon.ollama.models import CopyBody, ModelBody
from localllm.daemon.openai import requests as openai
from localllm.daemon.openai.batches.routes import BatchBody
from localllm.daemon.openai.responses.requests import ResponseBody
from localllm.daemon.openai.vectors import EmbeddingBody, RerankBody

PATH = "/openapi.json"
JSON, SSE, NDJSON, TEXT = "application/json", "text/event-stream", "application/x-ndjson", "text/plain"
_API = "/api/localllm/"
_REF = "#/components/schemas/{name}"


class Health(msgspec.Struct):
    """The reply of /health."""

    status: Literal["ok", "draining"]


class Props(msgspec.Struct):
    """The reply of props."""

    version: str
    pid: int
    uptime_s: float
    default_model: str
    limits: Limits
    loaded: list[LoadedModel]


class ModelCount(msgspec.Struct):
    """What one model runs."""

    model: str
    num_active: int
    num_waiting: int


class Queue(msgspec.Struct):
    """The reply of queue."""

    num_active: int
    num_places: int
    models: list[ModelCount]
    requests: list[RunningRequest]


class Installed(msgspec.Struct):
    """The reply of models."""

    models: list[ModelInfo]


class Loaded(msgspec.Struct):
    """The reply of loaded."""

    models: list[LoadedModel]


class Unloaded(msgspec.Struct):
    """The reply of unload."""

    model: str


class Tokens(msgspec.Struct):
    """The reply of tokenize."""

    model: str
    tokens: list[int]


class Text(msgspec.Struct):
    """The reply of detokenize."""

    model: str
    text: str


class Steered(msgspec.Struct):
    """The reply of control."""

    id: str
    control: Control


# What a path is sent, by its method and path. A POST that is not here takes no JSON.
TAKES: dict[str, Any] = {
    _API + "chat": ChatRequest,
    _API + "complete": CompletionRequest,
    _API + "infill": native.InfillBody,
    _API + "render": ChatRequest,
    _API + "tokenize": native.TokenizeBody,
    _API + "detokenize": native.DetokenizeBody,
    _API + "embed": EmbedRequest,
    _API + "rerank": RerankRequest,
    _API + "load": native.LoadBody,
    _API + "unload": native.UnloadBody,
    _API + "pull": native.PullBody,
    _API + "control": native.ControlBody,
    "/api/generate": ollama.GenerateBody,
    "/api/chat": ollama.ChatBody,
    "/api/embed": ollama.EmbedBody,
    "/api/embeddings": ollama.EmbeddingBody,
    "/api/show": ModelBody,
    "/api/pull": ModelBody,
    "/api/push": ModelBody,
    "/api/copy": CopyBody,
    "/api/delete": ModelBody,
    "/api/create": CreateBody,
    "/v1/messages": anthropic.MessagesBody,
    "/v1/messages/count_tokens": anthropic.CountBody,
    "/v1/chat/completions": openai.ChatBody,
    "/v1/chat/completions/input_tokens": openai.ChatBody,
    "/v1/completions": openai.CompletionBody,
    "/v1/embeddings": EmbeddingBody,
    "/v1/rerank": RerankBody,
    "/rerank": RerankBody,
    "/v1/responses": ResponseBody,
    "/v1/responses/input_tokens": ResponseBody,
    "/v1/batches": BatchBody,
}
# What it answers with: a type of JSON, or (media type, type of each event or line).
GIVES: dict[str, Any] = {
    "/health": Health,
    "/metrics": (TEXT, str),
    _API + "props": Props,
    _API + "queue": Queue,
    _API + "status": (SSE, Status),
    _API + "control": Steered,
    _API + "models": Installed,
    _API + "loaded": Loaded,
    _API + "load": (SSE, Event),
    _API + "unload": Unloaded,
    _API + "pull": (SSE, Event),
    _API + "chat": (SSE, Event),
    _API + "complete": (SSE, Event),
    _API + "infill": (SSE, Event),
    _API + "render": Rendered,
    _API + "tokenize": Tokens,
    _API + "detokenize": Text,
    _API + "embed": Embeddings,
    _API + "rerank": Ranking,
    _API + "inspect/{id}/replay": (SSE, Event),
}
# The forms in which other dialects stream, where the body asks for it.
_STREAMS = {"ollama": NDJSON, "openai": SSE, "anthropic": SSE}


def describing(dialects: tuple[Dialect, ...]) -> Dialect:
    """A dialect of one route, that describes the others."""

    async def describe(call: Call) -> Reply:
        """This document."""
        return json_reply(_document(dialects, call.daemon.version))

    return Dialect("openapi", PATH, (Endpoint("GET", PATH, describe),), error_body)


@functools.cache
def _document(dialects: tuple[Dialect, ...], version: str) -> dict[str, Any]:
    return document(dialects, version)


def document(dialects: Iterable[Dialect], version: str) -> dict[str, Any]:
    """The document. Where two dialects share a path, told apart by a header, the first one describes it."""
    endpoints = [(dialect, endpoint) for dialect in dialects for endpoint in dialect.endpoints]
    types = [TAKES[e.path] for _, e in endpoints if e.path in TAKES]
    types += [
        kind[1] if isinstance(kind, tuple) else kind for kind in (GIVES.get(e.path) for _, e in endpoints) if kind
    ]
    types = list(dict.fromkeys(types))
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for dialect, endpoint in endpoints:
        methods = paths.setdefault(re.sub(r"\{(\w+)(?::\w+)?\}", r"{\1}", endpoint.path), {})
        methods.setdefault(endpoint.method.lower(), _operation(dialect, endpoint, schema_of))
    return {
        "openapi": "3.1.0",
        "info": {"title": "localllm", "version": version, "description": "Language models on this machine."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(dialect: Dialect, endpoint: Endpoint, schema_of: dict[Any, Any]) -> dict[str, Any]:
    words = " ".join((endpoint.handler.__doc__ or "").split())
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{endpoint.method.lower()}{endpoint.path}").strip("_"),
        "tags": [dialect.name],
        "summary": words.partition(". ")[0].rstrip("."),
        "description": words,
        "responses": {
            "200": {"description": "Done.", "content": _content(dialect, endpoint, schema_of)},
            "default": {
                "description": "What was wrong with it, in this dialect's shape.",
                "content": {JSON: {"schema": {"type": "object"}}},
            },
        },
    }
    names = re.findall(r"\{(\w+)", endpoint.path)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    if endpoint.path in TAKES and endpoint.method in ("POST", "DELETE"):
        schema = schema_of[TAKES[endpoint.path]]
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    return operation


def _content(dialect: Dialect, endpoint: Endpoint, schema_of: dict[Any, Any]) -> dict[str, Any]:
    kind = GIVES.get(endpoint.path)
    if isinstance(kind, tuple):
        media, each = kind
        return {media: {"schema": {"type": "string"}, "x-each": schema_of[each]} if media == SSE else {}}
    if kind is not None:
        return {JSON: {"schema": schema_of[kind]}}
    content: dict[str, Any] = {JSON: {}}
    if endpoint.path in TAKES and dialect.name in _STREAMS:
        content[_STREAMS[dialect.name]] = {}
    return content
