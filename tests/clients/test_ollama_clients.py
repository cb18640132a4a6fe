"""Clients of Ollama's API, unchanged, against a live daemon with real weights."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import MODEL, RunScript
from tests.daemon.program import Program
from tests.daemon.serving import serving

pytestmark = pytest.mark.weights


def is_town(value: Any) -> bool:
    return {"city", "size"} <= set(value) and value["size"] in range(10) and isinstance(value["city"], str)


@pytest.fixture(scope="module")
def python_client(client_daemon: Program, run_python: RunScript, embed_model: str) -> Any:
    """What the Python package got."""
    return run_python("ollama_python.py", client_daemon.url, MODEL, embed_model)


def test_python_answers(python_client: Any) -> None:
    got = python_client
    assert got["chat"]["text"]
    assert got["chat"]["reason"] in ("stop", "length")
    num_prompt, num_made = got["chat"]["tokens"]
    assert num_prompt > 20
    assert 0 < num_made <= 12
    total, prompt, decode, load = got["chat"]["times"]
    assert 0 < prompt + decode <= total
    assert 0 <= load < total
    assert got["stream"]["load"] == 0, "it was in memory"
    assert got["chat"]["created_at"].endswith("Z")
    assert got["stream"]["text"] == got["chat"]["text"]
    assert got["stream"]["done"] == [False] * (len(got["stream"]["done"]) - 1) + [True]
    assert got["stream"]["eval_count"] == num_made
    assert got["generate_stream"]
    assert got["load"] == "load"
    assert got["logprobs"][1] == 2


def test_python_tools_and_forms(python_client: Any) -> None:
    got = python_client
    assert got["tools"] == {"role": "assistant", "said": True}
    assert got["tool_result"]
    assert is_town(got["structured"])
    assert got["json"][1] == "{"


def test_python_context_goes_on(python_client: Any) -> None:
    first, second, prompt = python_client["context"]
    assert first > 20
    assert prompt > first
    assert second > prompt
    assert python_client["raw"][0]
    assert python_client["raw"][1] is None, "raw answers have no context"


def test_python_models(python_client: Any) -> None:
    got = python_client
    assert MODEL in got["models"]
    assert got["show"] == ["llama", "134.52M", 8192]
    assert "completion" in got["capabilities"]
    assert [MODEL, 2048, True] in got["ps"]
    assert got["create"][-1] == "success"
    assert "You are Mario." in got["created"][0]
    assert got["created"][1].split() == ["temperature", "0.0"]
    assert "luigi" in got["left"]
    assert "mario" not in got["left"]
    assert got["pull"][-1] == "success"


def test_python_errors(python_client: Any) -> None:
    errors = python_client["errors"]
    assert errors["missing"][0] == 404
    assert errors["bad option"][0] == 400
    assert "temperature" in errors["bad option"][1]
    assert errors["push"][0] == 400
    assert errors["too long"][0] == 400
    assert "2048" in errors["too long"][1]
    assert errors["too long, streamed"] == errors["too long"]
    assert errors["a token that is none"][0] == 400
    assert errors["a schema that cannot be kept"][0] == 400
    assert "does not support thinking" in errors["think"][1]


@pytest.mark.minilm
def test_python_embeddings(python_client: Any) -> None:
    num_vectors, square, num_tokens = python_client["embed"]
    assert num_vectors == 2
    assert abs(square - 1) < 1e-3
    assert num_tokens > 4
    assert python_client["embeddings"] == 384


def test_python_keep_alive(python_client: Any) -> None:
    assert 500 < python_client["stays_s"] <= 600
    assert python_client["unload"] == "unload"
    assert MODEL in python_client["running"]
    assert "luigi" not in python_client["running"]


def test_calls_and_thinking(run_python: RunScript) -> None:
    """As the clients put them together; the answers are a script's."""
    with serving() as daemon:
        got = run_python("ollama_calls.py", daemon.url)
    for name in ("ollama thinking", "ollama generate thinking", "langchain thinking"):
        assert got.pop(name).startswith("let me see")
    assert set(got) == {"ollama", "ollama stream", "langchain", "langchain stream", "llama-index"}
    assert all(calls == [["add", {"a": 1}]] for calls in got.values())


def test_npm(client_daemon: Program, run_node: RunScript, embed_model: str) -> None:
    got = run_node("ollama_npm.mjs", client_daemon.url, MODEL, embed_model)
    assert got["chat"]["text"]
    assert got["stream"] == {"text": got["chat"]["text"], "done": True, "evalCount": got["chat"]["evalCount"]}
    assert got["chat"]["total"] > 0
    assert got["tools"] == "assistant"
    assert is_town(got["structured"])
    assert got["generate"]["text"]
    assert got["generate"]["numContext"] > 10
    assert MODEL in got["models"]
    assert MODEL in got["running"]
    assert got["family"] == "llama"
    assert got.get("embed", [384, 384]) == [384, 384]
    assert got["missing"][0] == 404


def test_langchain(client_daemon: Program, run_python: RunScript, embed_model: str) -> None:
    got = run_python("ollama_langchain.py", client_daemon.url, MODEL, embed_model)
    assert got["chat"]["text"]
    usage = got["chat"]["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert got["chat"]["done"] in ("stop", "length")
    assert got["stream"]["text"]
    assert got["stream"]["num_chunks"] > 2
    assert got["tools"] == ["AIMessage", True]
    assert got["tool_result"]
    assert is_town(got["structured"])
    assert got["llm"]
    assert got["llm_stream"]
    assert got.get("embed", [384, 384]) == [384, 384]
    assert got.get("embed_query", 384) == 384


def test_llama_index(client_daemon: Program, run_python: RunScript, embed_model: str) -> None:
    got = run_python("ollama_llama_index.py", client_daemon.url, MODEL, embed_model)
    assert got["chat"]["text"]
    assert got["chat"]["usage"]["completion_tokens"] <= 12
    assert got["stream"]
    assert got["complete"]
    assert got["complete_stream"]
    assert got["tools"]
    assert is_town(got["structured"])
    assert got["context_window"] == 8192
    assert got.get("embed", [384, 384]) == [384, 384]
