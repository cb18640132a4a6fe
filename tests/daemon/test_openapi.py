"""The OpenAPI document against the daemon it describes: its routes, and what the dialects say, by the golden files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from localllm.daemon.app import DIALECTS
from localllm.daemon.dialect import Endpoint
from localllm.daemon.openapi import PATH, template
from tests.daemon.serving import Served, serving

API = "/api/localllm/"
GOLDENS = Path(__file__).parent / "goldens"
ENDPOINTS = [endpoint for dialect in DIALECTS for endpoint in dialect.endpoints]
# These take nothing.
NO_BODY = {
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


@pytest.fixture(scope="module")
def exact(document: Any) -> Any:
    """The document with answers that may have no field but those described."""
    return closed(document)


def closed(node: Any) -> Any:
    if isinstance(node, list):
        return [closed(part) for part in node]
    if not isinstance(node, dict):
        return node
    made = {name: closed(part) for name, part in node.items()}
    if "properties" in made and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


def validate(document: Any, schema: Any, value: Any) -> None:
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def validate_named(document: Any, name: str, value: Any) -> None:
    validate(document, {"$ref": f"#/components/schemas/{name}"}, value)


def content(document: Any, method: str, path: str, media: str = "application/json") -> Any:
    return document["paths"][path][method]["responses"]["200"]["content"][media]


def test_every_route_is_in_it_with_words_of_its_own(document: Any) -> None:
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(endpoint.method, template(endpoint.path)) for endpoint in ENDPOINTS}
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert all(operation["summary"] for operation in operations)
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
def test_every_route_says_what_it_takes_and_gives(endpoint: Endpoint) -> None:
    takes_body = endpoint.method == "POST" and endpoint.path not in NO_BODY
    assert (endpoint.body is not None) is (takes_body or endpoint.path == "/api/delete")
    # What is refused by its name gives nothing.
    assert bool(endpoint.returns) is (endpoint.path != "/api/push")


def test_every_dialect_says_what_its_errors_are(document: Any) -> None:
    for dialect in DIALECTS:
        assert dialect.error_type is not None
    for path, asked, status in (
        ("/v1/models/absent", {}, "404"),
        ("/v1/models/absent", {"anthropic_version": "2023-06-01"}, "404"),
        (API + "inspect", {}, "404"),
        ("/metrics", {"host": "evil.example"}, "403"),
        ("/", {"host": "evil.example"}, "403"),
        ("/v1/models", {"host": "evil.example", "anthropic_version": "2023-06-01"}, "403"),
    ):
        with serving() as daemon:
            answer = daemon.ask("GET", path, None, **asked)
        assert answer.status == int(status)
        response = document["paths"][path.replace("absent", "{id}")]["get"]["responses"][status]
        if "$ref" in response:
            response = document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
        validate(document, response["content"]["application/json"]["schema"], answer.json)


def test_a_refusal_has_the_shape_of_the_route_it_was_for(daemon: Served) -> None:
    """Also where it comes before the route is looked for."""
    assert isinstance(daemon.ask("GET", "/", host="evil.example").json["error"], str)
    assert "type" not in daemon.ask("GET", "/metrics", host="evil.example").json["error"]
    asked = {"host": "evil.example", "anthropic_version": "2023-06-01"}
    assert daemon.ask("GET", "/v1/models", None, **asked).json["type"] == "error"
    assert daemon.ask("GET", "/v1/models", host="evil.example").json["error"]["type"] == "permission_error"


def test_every_reference_leads_somewhere(document: Any) -> None:
    known = {f"#/components/{kind}/{name}" for kind, found in document["components"].items() for name in found}
    found = set()
    level = [document]
    while level:
        found |= {node["$ref"] for node in level if isinstance(node, dict) and isinstance(node.get("$ref"), str)}
        level = [part for node in level for part in (node.values() if isinstance(node, dict) else node)
                 if isinstance(part, dict | list)]  # fmt: skip
    assert found <= known
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def events_of(stream: list[str]) -> list[Any]:
    """The values of a stream's events, whether kept as text or without it."""
    texts = [line for piece in stream for line in piece.splitlines() if line.startswith("data: ")]
    return [json.loads(text[6:]) for text in texts if text != "data: [DONE]"]


def golden(name: str) -> Any:
    return json.loads((GOLDENS / f"{name}_answers.json").read_text("utf-8"))


def test_what_openai_clients_get_is_as_it_says(exact: Any) -> None:
    for case in golden("openai").values():
        for kind, whole, chunk in (
            ("chat", "openai.ChatAnswer", "openai.ChatChunk"),
            ("completion", "openai.CompletionAnswer", "openai.CompletionChunk"),
        ):
            if kind in case:
                validate_named(exact, whole, case[kind])
            for event in events_of(case.get(f"{kind} stream", [])):
                validate_named(exact, "openai.Error" if "error" in event else chunk, event)


def test_what_ollama_clients_get_is_as_it_says(exact: Any) -> None:
    for case in golden("ollama").values():
        for kind, name in (("chat", "ollama.ChatAnswer"), ("generate", "ollama.GenerateAnswer")):
            lines = [json.loads(line) for line in case.get(f"{kind} stream", []) if line]
            for value in [*lines, *([case[kind]] if kind in case else [])]:
                validate_named(exact, "ollama.Error" if "error" in value else name, value)


def test_what_anthropic_clients_get_is_as_it_says(exact: Any) -> None:
    for case in golden("anthropic").values():
        if "whole" in case:
            validate_named(exact, "anthropic.MessageValue", case["whole"])
        for event in events_of(case.get("stream", [])):
            name = "anthropic.Error" if event["type"] == "error" else "anthropic.MessageEvent"
            validate_named(exact, name, event)


def test_what_a_response_is_is_as_it_says(exact: Any) -> None:
    for case in golden("responses").values():
        if "response" in case:
            validate_named(exact, "openai.Response", case["response"])
        for event in case.get("events", []):
            validate_named(exact, "openai.ResponseEvent", event)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/health", None),
        ("GET", PATH, None),
        ("GET", API + "props", None),
        ("GET", API + "queue", None),
        ("GET", API + "models", None),
        ("GET", API + "loaded", None),
        ("POST", API + "tokenize", {"text": "hi"}),
        ("POST", API + "detokenize", {"tokens": [104, 105]}),
        ("POST", API + "render", {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}),
        ("POST", API + "embed", {"model": "tiny", "inputs": ["a"]}),
        ("POST", API + "rerank", {"model": "tiny", "query": "q", "documents": ["a", "b"]}),
        ("GET", "/api/version", None),
        ("GET", "/api/tags", None),
        ("GET", "/api/ps", None),
        ("POST", "/api/embed", {"model": "tiny", "input": ["a", "b"], "truncate": True}),
        ("POST", "/api/embed", {"model": "tiny"}),
        ("POST", "/api/embeddings", {"model": "tiny", "prompt": "a"}),
        ("POST", "/api/chat", {"model": "tiny"}),
        ("POST", "/api/chat", {"model": "tiny", "_debug_render_only": True, "messages": [{"role": "user"}]}),
        ("POST", "/api/pull", {"model": "tiny", "stream": False}),
        ("POST", "/v1/embeddings", {"model": "tiny", "input": "a", "encoding_format": "base64"}),
        ("POST", "/v1/embeddings", {"model": "tiny", "input": ["a", "b"], "truncate": True}),
        ("POST", "/v1/rerank", {"model": "tiny", "query": "q", "documents": ["a"], "return_documents": True}),
        ("POST", "/v1/messages/count_tokens", {"model": "tiny", "messages": [{"role": "user", "content": "a"}]}),
        (
            "POST",
            "/v1/chat/completions/input_tokens",
            {"model": "tiny", "messages": [{"role": "user", "content": "a"}]},
        ),
        ("POST", "/v1/responses", {"model": "tiny", "input": "echo a", "metadata": {"a": "b"}}),
        ("POST", "/v1/responses/input_tokens", {"model": "tiny", "input": "a"}),
        ("GET", "/v1/models", None),
        ("GET", "/v1/files", None),
        ("GET", "/v1/batches", None),
        ("POST", API + "unload", {"model": "tiny"}),
    ],
)
def test_replies_are_as_it_says(daemon: Served, exact: Any, method: str, path: str, body: Any) -> None:
    daemon.ask("POST", API + "load", {"model": "tiny"})
    answer = daemon.ask(method, path, body)
    assert answer.status == 200, answer.body
    validate(exact, content(exact, method.lower(), path)["schema"], answer.json)
    if body is not None:
        sent = exact["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        validate(exact, sent, body)


def test_the_events_of_a_stream_are_as_it_says(daemon: Served, exact: Any) -> None:
    each = content(exact, "post", API + "chat", "text/event-stream")["x-itemSchema"]
    for words in ("echo hi", "think", "call", "notice", "interrupted"):
        body = {"model": "new", "messages": [{"role": "user", "content": words}]}
        events = events_of([daemon.ask("POST", API + "chat", body).body.decode()])
        assert len(events) > 1
        for event in events:
            validate(exact, each, event)


def test_the_stream_without_an_end_is_as_it_says(daemon: Served, exact: Any) -> None:
    each = content(exact, "get", API + "status", "text/event-stream")["x-itemSchema"]
    with daemon.connect() as sock:
        sock.sendall(f"GET {API}status HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        data = b""
        while b"}\n\n" not in data:
            data += sock.recv(65536)
    (event,) = events_of([data.decode()])
    validate(exact, each, event)


def test_what_its_schema_refuses_the_daemon_refuses(daemon: Served, document: Any) -> None:
    """Bodies of the wrong type: never taken, never a failure of the daemon."""
    for endpoint in ENDPOINTS:
        if endpoint.body is None or endpoint.body_media != "application/json":
            continue
        operation = document["paths"][endpoint.path][endpoint.method.lower()]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        for body in ({"model": 5, "source": 5}, {"model": {"a": []}, "source": []}):
            with pytest.raises(jsonschema.ValidationError):
                validate(document, schema, body)
            answer = daemon.ask(endpoint.method, endpoint.path, body)
            assert answer.status == 400, (endpoint.path, body, answer.body)
