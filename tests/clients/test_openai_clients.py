"""Clients of OpenAI's and Anthropic's APIs, unchanged, against a live daemon with real weights."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import MODEL, RunScript
from tests.daemon.program import Program

pytestmark = pytest.mark.weights


def is_town(value: Any) -> bool:
    return {"city", "size"} == set(value) and isinstance(value["size"], int) and isinstance(value["city"], str)


def is_call(name: str, arguments: Any) -> bool:
    return name == "get_weather" and isinstance(arguments["city"], str)


@pytest.fixture(scope="module")
def openai_python(client_daemon: Program, run_python: RunScript, embed_model: str) -> Any:
    """What the Python package `openai` got."""
    return run_python("openai_python.py", client_daemon.url, MODEL, embed_model)


def test_openai_python_chats(openai_python: Any) -> None:
    got = openai_python
    text, reason, num_tokens = got["chat"]
    assert text
    assert reason in ("stop", "length")
    assert 0 < num_tokens <= 12
    said, num_cached = got["stream"]
    assert said == text
    assert num_cached > 20, "the prompt was computed twice"
    assert got["tools"][0] == "tool_calls"
    assert is_call(*got["tools"][1:])
    assert is_call(*got["tools_stream"])
    assert got["tools"][2]["days"] <= 9
    assert got["tool_result"][0]
    assert is_town(got["structured"])
    assert got["missing"] == "model_not_found"
    assert got.get("embed", [384, 384]) == [384, 384]


def test_openai_python_responses(openai_python: Any) -> None:
    got = openai_python
    text, status, num_tokens = got["response"]
    assert text == got["chat"][0]
    assert status in ("completed", "incomplete")
    assert num_tokens == got["chat"][2]
    more, first, last, num_cached = got["response_stream"]
    assert more
    assert first == "response.created"
    assert last in ("response.completed", "response.incomplete")
    assert num_cached > 30, "the conversation was computed anew"
    assert is_call(*got["response_tools"])
    assert is_town(got["response_structured"])
    counted, measured = got["input_tokens"]
    assert counted == measured
    assert got["background"][1:] == ["cancelled", "cancelled"]


def test_openai_python_batches(openai_python: Any) -> None:
    assert openai_python["batch"] == ["completed", [[f"line{n}", n] for n in range(1, 5)]]


def test_anthropic_python(client_daemon: Program, run_python: RunScript) -> None:
    got = run_python("anthropic_python.py", client_daemon.url, MODEL)
    text, reason, num_tokens = got["chat"]
    assert text
    assert reason in ("end_turn", "max_tokens")
    assert 0 < num_tokens <= 12
    said, again, num_cached = got["stream"]
    assert (said, again) == (text, reason)
    assert num_cached > 10, "the prompt was computed twice"
    counted, measured = got["count"]
    assert counted == measured
    assert got["stop"] == ["stop_sequence", "o"]
    assert got["tools"][0] == "tool_use"
    assert is_call(*got["tools"][1:])
    assert is_call(*got["tools_stream"])
    assert got["tool_result"] == "text"
    assert is_town(got["structured"])
    assert got["prefill"]
    assert MODEL in got["models"]
    assert got["model"] == MODEL
    errors = got["errors"]
    assert errors["missing"][:2] == [404, "not_found_error"]
    assert errors["image"] == [400, "invalid_request_error", "images are not taken"]
    assert errors["too long"][0] == 400
    assert errors["too long"][2].startswith("prompt is too long: ")


def test_langchain(client_daemon: Program, run_python: RunScript, embed_model: str) -> None:
    got = run_python("openai_langchain.py", client_daemon.url, MODEL, embed_model)
    text, num_tokens, reason = got["chat"]
    assert text
    assert 0 < num_tokens <= 12
    assert reason in ("stop", "length")
    assert got["stream"] == [text, True]
    assert is_call(*got["tools"])
    assert got["tool_result"]
    assert is_town(got["json_schema"])
    assert is_town(got["function_calling"])
    assert got["response"]
    assert got.get("embed", [384, 384]) == [384, 384]


def test_llama_index(client_daemon: Program, run_python: RunScript) -> None:
    got = run_python("openai_llama_index.py", client_daemon.url, MODEL)
    assert got["chat"]
    assert got["stream"] == got["chat"]
    assert is_call(*got["tools"])
    assert is_town(got["structured"])
    assert got["complete"]


def test_litellm(client_daemon: Program, run_python: RunScript, embed_model: str) -> None:
    got = run_python("openai_litellm.py", client_daemon.url, MODEL, embed_model)
    for name in ("openai", "anthropic"):
        text, num_tokens = got[name]["chat"]
        assert text
        assert 0 < num_tokens <= 12
        assert got[name]["stream"] == text
        assert is_call(*got[name]["tools"])
    assert is_town(got["structured"])
    assert got.get("embed", [384, 384]) == [384, 384]


def test_openai_npm(client_daemon: Program, run_node: RunScript, embed_model: str) -> None:
    got = run_node("openai_npm.mjs", client_daemon.url, MODEL, embed_model)
    text, num_tokens = got["chat"]
    assert text
    assert got["stream"] == text
    assert is_call(*got["tools"])
    assert is_town(got["structured"])
    assert got["response"] == [text, num_tokens]
    assert got["again"] == text
    assert got["missing"] == [404, "model_not_found"]
    assert got.get("embed", [384, 384]) == [384, 384]


def test_ai_sdk(client_daemon: Program, run_node: RunScript, embed_model: str) -> None:
    got = run_node("openai_ai.mjs", client_daemon.url, MODEL, embed_model)
    assert got["chat"][0]
    assert got["stream"] == got["chat"]
    assert is_call(*got["tools"])
    assert is_call(*got["toolsStream"])
    assert is_town(got["structured"])
    assert got.get("embed", [384, 384]) == [384, 384]
