"""The OpenAPI document of all dialects, made from what their routes declare and the types they decode and encode.

Nothing is described twice: a route's Endpoint names its types, msgspec gives their schemas. OpenAPI 3.1 has no word for
the items of a stream: `x-itemSchema` is that of one event's data, or of one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, TypedDict

import msgspec

from localllm.daemon.dialect import EVENTS, LINES, Call, Dialect, Endpoint, Reply, Returns
from localllm.daemon.guard import PUBLIC_PATHS
from localllm.daemon.native import json_reply
from localllm.daemon.native.shapes import Error
from localllm.daemon.native.values import error_body

PATH = "/openapi.json"
_STREAMS = {EVENTS: "Server-sent events, each with one value as its data.", LINES: "One JSON value a line."}
# What any request may get: unsound, without a key, of a stranger, too slow, too long, too many, broken, busy.
_ANY = (400, 401, 403, 408, 414, 429, 431, 500, 503)
_WITH_BODY = (413, 415)
# Refused before it is known whose request it is.
_BY_THE_EDGE = (400, 408, 414, 431)
_REFERENCE = "#/components/schemas/"
_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "RequestId": ("what the daemon's log calls this request", {"type": "string"}),
    "RetryAfter": ("seconds after which asking again may help", {"type": "integer", "minimum": 1}),
    "ShouldRetry": ("that asking again is useless", {"enum": ["false"]}),
    "Authenticate": ("how to show a key", {"const": "Bearer"}),
}
_INTRO = (
    "localllm's HTTP API: its own, and those of OpenAI, Ollama and Anthropic, each with its own shape of errors. "
    "Fields that are not described are ignored in requests."
)


class EdgeDetail(TypedDict):
    """What is wrong."""

    message: str
    type: str
    param: None
    code: str


class EdgeError(TypedDict):
    """The body of an error found before a request was whole; the connection is closed behind it."""

    error: EdgeDetail


class Openapi(TypedDict):
    """An OpenAPI document."""

    openapi: str
    info: dict[str, Any]
    security: list[dict[str, list[str]]]
    paths: dict[str, Any]
    components: dict[str, Any]


def describing(dialects: Sequence[Dialect]) -> Dialect:
    """A dialect of one route, which serves the document of `dialects` and of itself."""
    made: list[bytes] = []

    async def openapi(call: Call) -> Reply:
        """This document."""
        if not made:
            made.append(msgspec.json.encode(document([*dialects, own], call.daemon.version)))
        return json_reply(msgspec.Raw(made[0]))

    route = Endpoint("GET", PATH, openapi, returns=(Returns(Openapi),))
    own = Dialect("openapi", PATH, (route,), error_body, error_type=Error)
    return own


def document(dialects: Iterable[Dialect], version: str) -> dict[str, Any]:
    """The document. Routes that share a path and method (told apart by a header) are one operation there."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {}
    for dialect in dialects:
        types = _Types(dialect)
        schemas |= types.components
        for endpoint in dialect.endpoints:
            path = template(endpoint.path)
            operations = paths.setdefault(path, {})
            method = endpoint.method.lower()
            made = _operation(dialect, endpoint, types)
            operations[method] = _merged(operations[method], made) if method in operations else made
    headers = {name: {"description": text, "schema": schema} for name, (text, schema) in _HEADERS.items()}
    responses = _shared([operation for operations in paths.values() for operation in operations.values()])
    return {
        "openapi": "3.1.0",
        "info": {"title": "localllm", "version": version, "description": _INTRO},
        "security": [{}, {"bearer": []}, {"xApiKey": []}, {"apiKey": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "headers": headers,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "xApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "api-key"},
            },
        },
    }


def _shared(operations: list[dict[str, Any]]) -> dict[str, Any]:
    """The errors that several operations have alike, each named once; there they become references."""
    shared: dict[str, Any] = {}
    for operation in operations:
        for status, response in operation["responses"].items():
            name = f"{operation['tags'][0]}.{status}"
            if int(status) >= 400 and shared.setdefault(name, response) == response:
                operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    return shared


def template(path: str) -> str:
    """A path in OpenAPI's syntax: without Starlette's converters."""
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)


class _Types:
    """The schemas of all types of a dialect. Their names begin with its own, as two may have one of the same name."""

    def __init__(self, dialect: Dialect) -> None:
        types: list[Any] = [EdgeError, dialect.error_type]
        for endpoint in dialect.endpoints:
            types += [endpoint.body, endpoint.query, *(returns.type for returns in endpoint.returns)]
        self._types = [kind for i, kind in enumerate(types) if kind is not None and kind not in types[:i]]
        prefix = f"{dialect.name}."
        self._schemas, found = msgspec.json.schema_components(self._types, ref_template=f"{_REFERENCE}{prefix}{{name}}")
        self.components = {prefix + name: schema for name, schema in found.items()}

    def schema(self, kind: Any) -> dict[str, Any]:
        """The schema of one of the types."""
        schema: dict[str, Any] = self._schemas[self._types.index(kind)]
        return schema

    def fields(self, kind: Any) -> dict[str, Any]:
        """The schemas of a structure's fields."""
        name = self.schema(kind)["$ref"].removeprefix(_REFERENCE)
        fields: dict[str, Any] = self.components[name]["properties"]
        return fields


def _operation(dialect: Dialect, endpoint: Endpoint, types: _Types) -> dict[str, Any]:
    words = (endpoint.handler.__doc__ or "").strip()
    slug = re.sub(r"\W+", "_", endpoint.path).strip("_") or "root"
    made: dict[str, Any] = {
        "operationId": f"{endpoint.method.lower()}_{slug}",
        "tags": [dialect.name],
        "summary": words.split("\n", 1)[0],
        "parameters": _parameters(endpoint, types),
        "responses": _responses(dialect, endpoint, types),
    }
    if endpoint.body is not None:
        content = {"schema": types.schema(endpoint.body)}
        made["requestBody"] = {"required": True, "content": {endpoint.body_media: content}}
    if endpoint.path in PUBLIC_PATHS:
        made["security"] = []
    if endpoint.manages:
        made["description"] = "Not with a key for asking only."
    return made


def _parameters(endpoint: Endpoint, types: _Types) -> list[dict[str, Any]]:
    text = {"type": "string"}
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": text} for name in re.findall(r"\{(\w+)", endpoint.path)
    ]
    if endpoint.query is not None:
        fields = types.fields(endpoint.query)
        found += [{"name": name, "in": "query", "schema": schema} for name, schema in fields.items()]
    if endpoint.header is not None:
        found.append({"name": endpoint.header, "in": "header", "schema": text})
    return found


def _responses(dialect: Dialect, endpoint: Endpoint, types: _Types) -> dict[str, Any]:
    made: dict[str, dict[str, Any]] = {}
    for returns in endpoint.returns:
        response = made.setdefault(str(returns.status), _response(returns.status))
        if returns.media:
            response.setdefault("content", {})[returns.media] = _content(returns, dialect, types)
    has_body = endpoint.method in ("POST", "PUT")
    fails = {*_ANY, *(_WITH_BODY if has_body else ()), *endpoint.fails, *dialect.more_statuses}
    for status in sorted(fails):
        response = made.setdefault(str(status), _response(status))
        if endpoint.method == "HEAD":
            continue
        kinds = [dialect.error_type, *([EdgeError] if status in _BY_THE_EDGE else [])]
        content = response.setdefault("content", {})
        for kind in kinds:
            _widen(content, "application/json", {"schema": types.schema(kind)})
    return dict(sorted(made.items()))


def _response(status: int) -> dict[str, Any]:
    """A response without its content yet."""
    names = {"x-request-id": "RequestId"}
    if status == 401:
        names["www-authenticate"] = "Authenticate"
    if status >= 409:
        names |= {"retry-after": "RetryAfter", "x-should-retry": "ShouldRetry"}
    headers = {header: {"$ref": f"#/components/headers/{name}"} for header, name in names.items()}
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Overloaded"
    return {"description": phrase, "headers": headers}


def _content(returns: Returns, dialect: Dialect, types: _Types) -> dict[str, Any]:
    schema = types.schema(returns.type) if returns.type is not None else {}
    if returns.media in _STREAMS:
        text = {"description": _STREAMS[returns.media]}
        return {"schema": text, "x-itemSchema": {"anyOf": [schema, types.schema(dialect.error_type)]}}
    return {"schema": schema or {"type": "string"}}


def _widen(content: dict[str, Any], media: str, more: dict[str, Any]) -> None:
    """Add an alternative to a medium's schemas."""
    known = content.setdefault(media, {})
    for name, schema in more.items():
        here = known.get(name)
        kinds = [] if here is None else here.get("anyOf", [here])
        added = [kind for kind in schema.get("anyOf", [schema]) if kind not in kinds]
        both = [*kinds, *added]
        known[name] = both[0] if len(both) == 1 else {"anyOf": both}


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """One operation of two."""
    made = dict(first)
    made["tags"] = [*first["tags"], *second["tags"]]
    names = {parameter["name"] for parameter in first["parameters"]}
    made["parameters"] = first["parameters"] + [p for p in second["parameters"] if p["name"] not in names]
    responses = dict(first["responses"])
    for status, response in second["responses"].items():
        known = responses.setdefault(status, response)
        for media, content in response.get("content", {}).items():
            _widen(known.setdefault("content", {}), media, content)
    made["responses"] = dict(sorted(responses.items()))
    return made
