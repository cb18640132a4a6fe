"""Whatever the OpenAPI document allows, and much that it does not, asked of a running daemon by schemathesis.

Every answer has a status, a content type and a body as the document says, and none is a failure of the daemon. The
seed is fixed; the long form asks ten times as much.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jsonschema
import pytest
import requests
import schemathesis
from hypothesis import strategies
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from localllm.api import (
    ChatRequest,
    CompletionRequest,
    Embeddings,
    EmbedRequest,
    Event,
    Finished,
    Notice,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallEvent,
    Usage,
)
from localllm.daemon.app import DIALECTS
from localllm.daemon.openapi import document
from localllm.daemon.run import ServeOptions
from localllm.errors import ModelNotFoundError
from localllm.store.store import ModelStore
from tests.clients.conftest import install_model
from tests.daemon.serving import Served, serving
from tests.daemon.test_ollama_store import KeptBackend

NUM_EXAMPLES = 60 if os.environ.get("LOCALLLM_LONG") else 6
# Its stream has no end.
ENDLESS = "GET /api/localllm/status"
DOCUMENT = document(DIALECTS, "0")
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS: dict[str, Any] = {}
for _found in SCHEMA.get_all_operations():
    _operation: Any = _found.ok()  # type: ignore[union-attr]
    OPERATIONS[_operation.label] = _operation
CHECKS: list[Any] = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]


class Able(KeptBackend):
    """Answers whatever it is asked, as long as the model is there; a call where there are tools."""

    async def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        for event in self._events(request):
            yield event

    async def complete(self, request: CompletionRequest) -> AsyncIterator[Event]:
        for event in self._events(request):
            yield event

    def _events(self, request: ChatRequest | CompletionRequest) -> Iterator[Event]:
        if request.model != "base":
            raise ModelNotFoundError(f"no model {request.model}", name=request.model)
        yield ReasoningDelta("hm")
        yield TextDelta("say \N{SNOWMAN} ")
        if isinstance(request, ChatRequest) and request.tools:
            yield ToolCallEvent(ToolCall("call_1", request.tools[0].name, '{"a":1}'))
        yield Notice("truncated", "2 turns were dropped", {"num_dropped": 2})
        yield Finished("stop", Usage(num_prompt_tokens=3, num_cached_tokens=1, num_output_tokens=2))

    async def detokenize(self, model: str, tokens: Any) -> str:  # noqa: ARG002
        return "x" * len(tokens)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        num = len(request.inputs)
        return Embeddings((b"\0\0\x80\x3f" * 2,) * num, 2, (1,) * num)

    async def unload(self, model: str) -> None:
        if model not in self.loaded:
            raise ModelNotFoundError(f"{model} is not loaded", name=model)
        self.loaded.remove(model)


@pytest.fixture(scope="module")
def daemon(tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    store = ModelStore(tmp_path_factory.mktemp("store"))
    install_model(store, "base", tiny_model())
    options = ServeOptions(host="127.0.0.1", port=0, default_model="base", num_inspected=4)
    with serving(Able(store), options) as served:

        async def reload() -> None:
            pass

        served.server._app.daemon.reload = reload
        yield served


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", [label for label in OPERATIONS if label != ENDLESS])
def test_every_answer_is_as_documented(
    daemon: Served,
    session: requests.Session,
    tiny_model: Callable[..., Path],
    label: str,
    mode: GenerationMode,
) -> None:
    operation = OPERATIONS[label]
    if not daemon.backend.store.list():  # an operation before this one may have removed it
        install_model(daemon.backend.store, "base", tiny_model())

    @hypothesis.seed(20260101)
    @hypothesis.settings(
        max_examples=NUM_EXAMPLES,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode), knows_model=strategies.booleans())
    def ask(case: Any, knows_model: bool) -> None:
        if knows_model and isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = "base"
        response = case.call(base_url=daemon.url, session=session, timeout=20)
        check_status(response)
        case.validate_response(response, checks=CHECKS)
        check_stream(operation.path, operation.method, response)

    try:
        ask()
    except hypothesis.errors.Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "nothing can be asked"


def check_status(response: Any) -> None:
    """No failure of the daemon; where it cannot for now, it says when to come again, or that there is no use in it."""
    assert response.status_code not in (500, 501, 502), response.text
    if response.status_code >= 503:
        assert "retry-after" in response.headers or response.headers.get("x-should-retry") == ["false"]


def check_stream(path: str, method: str, response: Any) -> None:
    """Every event and line of a stream is as documented."""
    media = response.headers.get("content-type", [""])[0].partition(";")[0]
    if media not in ("text/event-stream", "application/x-ndjson"):
        return
    content = DOCUMENT["paths"][path][method]["responses"]["200"]["content"][media]
    schema = {**content["x-itemSchema"], "components": DOCUMENT["components"]}
    lines = response.content.decode().splitlines()
    if media == "text/event-stream":
        lines = [line[6:] for line in lines if line.startswith("data: ") and line != "data: [DONE]"]
    for line in lines:
        jsonschema.Draft202012Validator(schema).validate(json.loads(line))
