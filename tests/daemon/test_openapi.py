"""The OpenAPI document against the daemon it describes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from localllm.daemon.app import DIALECTS
from localllm.daemon.openapi import PATH, TAKES
from tests.daemon.serving import Served, serving

API = "/api/localllm/"
# These take forms and bytes, or nothing.
NO_JSON = {
    "/v1/files",
    "/api/blobs/{digest}",
    "/v1/responses/{id}/cancel",
    "/v1/batches/{id}/cancel",
    API + "reload",
    API + "inspect/{id}/replay",
}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def document(daemon: Served) -> Any:
    answer = daemon.ask("GET", PATH)
    assert answer.status == 200
    return answer.json


def validate(document: Any, schema: Any, value: Any) -> None:
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def reply_schema(document: Any, method: str, path: str) -> Any:
    return document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]


def test_every_route_is_in_it_with_words_of_its_own(document: Any) -> None:
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    routes = {(e.method, e.path.replace(":path", "")) for dialect in DIALECTS[1:] for e in dialect.endpoints}
    assert described == routes
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert all(operation["summary"] for operation in operations)
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)


def test_every_body_of_json_has_its_schema() -> None:
    posts = {e.path for dialect in DIALECTS for e in dialect.endpoints if e.method == "POST"}
    assert posts - set(TAKES) == NO_JSON
    assert set(TAKES) <= posts | {"/api/delete"}


def test_every_reference_leads_somewhere(document: Any) -> None:
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    found = set()
    level = [document]
    while level:
        found |= {node["$ref"] for node in level if isinstance(node, dict) and "$ref" in node}
        level = [part for node in level for part in (node.values() if isinstance(node, dict) else node)
                 if isinstance(part, dict | list)]  # fmt: skip
    assert found <= known
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/health", None),
        ("GET", API + "props", None),
        ("GET", API + "queue", None),
        ("GET", API + "models", None),
        ("GET", API + "loaded", None),
        ("POST", API + "tokenize", {"text": "hi"}),
        ("POST", API + "detokenize", {"tokens": [104, 105]}),
        ("POST", API + "render", {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}),
        ("POST", API + "embed", {"model": "tiny", "inputs": ["a"]}),
        ("POST", API + "rerank", {"model": "tiny", "query": "q", "documents": ["a", "b"]}),
        ("POST", API + "unload", {"model": "tiny"}),
    ],
)
def test_replies_are_as_it_says(daemon: Served, document: Any, method: str, path: str, body: Any) -> None:
    daemon.ask("POST", API + "load", {"model": "tiny"})
    answer = daemon.ask(method, path, body)
    assert answer.status == 200, answer.body
    validate(document, reply_schema(document, method.lower(), path), answer.json)
    if body is not None:
        sent = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        validate(document, sent, body)


def test_the_events_of_a_stream_are_as_it_says(daemon: Served, document: Any) -> None:
    each = document["paths"][API + "chat"]["post"]["responses"]["200"]["content"]["text/event-stream"]["x-each"]
    for words in ("echo hi", "think", "call", "notice"):
        body = {"model": "new", "messages": [{"role": "user", "content": words}]}
        answer = daemon.ask("POST", API + "chat", body)
        lines = [line[6:] for line in answer.body.decode().splitlines() if line.startswith("data: ")]
        assert len(lines) > 1
        for line in lines:
            validate(document, each, json.loads(line))


def test_what_its_schema_refuses_the_daemon_refuses(daemon: Served, document: Any) -> None:
    """Bodies of the wrong type: never taken, never a failure of the daemon."""
    for path in TAKES:
        if "{" in path:
            continue
        method = "POST" if path != "/api/delete" else "DELETE"
        schema = document["paths"][path][method.lower()]["requestBody"]["content"]["application/json"]["schema"]
        for body in ({"model": 5}, {"model": {"a": []}}):
            with pytest.raises(jsonschema.ValidationError):
                validate(document, schema, body)
            answer = daemon.ask(method, path, body)
            assert 400 <= answer.status < 500, (path, body, answer.body)
