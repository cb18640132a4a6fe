"""Anthropic's dialect: golden files both ways, whole and streamed answers alike, and the routes over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from localllm.daemon.anthropic.answers import MessageStream, message
from localllm.daemon.anthropic.values import error_value
from localllm.daemon.errors import problem_of
from localllm.daemon.run import ServeOptions
from localllm.daemon.sse import merged
from localllm.errors import ContextLengthError
from tests.daemon.anthropic_cases import EVENTS, GOLDENS, answer_goldens, body, request_goldens
from tests.daemon.serving import Served, serving


@pytest.mark.parametrize(("kind", "made"), [("requests", request_goldens), ("answers", answer_goldens)])
def test_translation_is_as_in_the_golden_files(kind: str, made: Any) -> None:
    wanted = json.loads((GOLDENS / f"anthropic_{kind}.json").read_text(encoding="utf-8"))
    found = made()
    assert set(found) == set(wanted)
    for name, value in found.items():
        assert value == wanted[name], name


@pytest.mark.parametrize("name", EVENTS)
def test_a_stream_says_what_the_whole_message_says(name: str) -> None:
    """Event by event, all at once, or merged."""
    events = EVENTS[name]
    whole = message("msg_1", "tiny", events)
    single = MessageStream("msg_1", "tiny")
    ways = [
        b"".join(single.encode([event]) for event in events),
        MessageStream("msg_1", "tiny").encode(events),
        MessageStream("msg_1", "tiny").encode(merged(list(events))),
    ]
    assert ways[0] == ways[1]
    for data in ways:
        made = put_together(data)
        assert made["content"] == whole["content"]
        assert made["stop_reason"] == whole["stop_reason"]
        assert made["usage"] == whole["usage"]


def put_together(data: bytes) -> dict[str, Any]:
    """What a client makes of a stream; its order is checked on the way."""
    made: dict[str, Any] = {}
    inputs: dict[int, str] = {}
    is_open = False
    for kind, value in events_of(data):
        assert value["type"] == kind
        if kind == "message_start":
            made = value["message"]
        elif kind == "content_block_start":
            assert not is_open
            assert value["index"] == len(made["content"])
            is_open = True
            made["content"].append(dict(value["content_block"]))
        elif kind == "content_block_delta":
            assert is_open
            block, delta = made["content"][value["index"]], value["delta"]
            if delta["type"] == "input_json_delta":
                inputs[value["index"]] = inputs.get(value["index"], "") + delta["partial_json"]
            elif delta["type"] == "signature_delta":
                block["signature"] = delta["signature"]
            else:
                field = delta["type"].removesuffix("_delta")
                block[field] += delta[field]
        elif kind == "content_block_stop":
            is_open = False
        elif kind == "message_delta":
            made |= value["delta"] | {"usage": value["usage"]}
    assert not is_open
    for index, text in inputs.items():
        try:
            made["content"][index]["input"] = json.loads(text)
        except ValueError:
            made["content"][index]["input"] = {"INVALID_JSON": text}
    return made


def events_of(data: bytes) -> list[tuple[str, Any]]:
    found = []
    for part in data.decode().split("\n\n"):
        if part:
            first, second = part.split("\n")
            found.append((first.removeprefix("event: "), json.loads(second.removeprefix("data: "))))
    return found


def test_too_long_is_said_in_the_words_clients_look_for() -> None:
    problem = problem_of(ContextLengthError("no", num_prompt_tokens=900, num_ctx=512))
    assert error_value(problem)["error"]["message"] == "prompt is too long: 900 tokens > 512 maximum"


# --- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daemon() -> Iterator[Served]:
    with serving() as served:
        yield served


def say(words: str, **fields: Any) -> dict[str, Any]:
    return body(messages=[{"role": "user", "content": words}], **fields)


def test_messages(daemon: Served) -> None:
    answer = daemon.ask("POST", "/v1/messages", say("echo hello there")).json
    assert answer["content"] == [{"type": "text", "text": "hello there"}]
    assert answer["usage"]["cache_read_input_tokens"] == 4
    streamed = daemon.ask("POST", "/v1/messages?beta=true", say("think a b", stream=True))
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert [block["type"] for block in put_together(streamed.body)["content"]] == ["thinking", "text"]
    events = events_of(streamed.body)
    assert events[-1][0] == "message_stop"
    for usage in (events[0][1]["message"]["usage"], events[-2][1]["usage"]):
        assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (6, 4)
    assert events[0][1]["message"]["usage"]["output_tokens"] == 0


def test_a_failed_stream_ends_in_one_error_event(daemon: Served) -> None:
    answer = daemon.ask("POST", "/v1/messages", say("interrupted", stream=True))
    assert answer.status == 200
    kinds = [kind for kind, _value in events_of(answer.body)]
    assert kinds[-1] == "error"
    assert kinds.count("error") == 1
    assert "message_stop" not in kinds


def test_errors_have_the_shape_of_this_api(daemon: Served) -> None:
    for path, given, status, kind in (
        ("/v1/messages", say("fail"), 503, "api_error"),
        ("/v1/messages", {"messages": []}, 400, "invalid_request_error"),
        ("/v1/messages", say("x", model="absent"), 404, "not_found_error"),
        ("/v1/messages/unknown", {}, 404, "not_found_error"),
    ):
        answer = daemon.ask("POST", path, given)
        assert answer.status == status, path
        assert answer.json["type"] == "error"
        assert answer.json["error"]["type"] == kind


def test_a_full_daemon_is_overloaded() -> None:
    with serving(num_requests=1) as served, served.begin("hang") as _sock:
        assert served.backend.begun.wait(10)
        answer = served.ask("POST", "/v1/messages", say("x"))
        assert answer.status == 529
        assert answer.json["error"]["type"] == "overloaded_error"
        assert int(answer.headers["retry-after"]) >= 1


def test_count_tokens(daemon: Served) -> None:
    answer = daemon.ask("POST", "/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "hello"}]})
    assert answer.json == {"input_tokens": len("user: hello\n")}


def test_models_in_either_shape_by_the_header(daemon: Served) -> None:
    ours = daemon.ask("GET", "/v1/models", None, anthropic_version="2023-06-01").json
    assert ours["data"][-1] == {"type": "model", "id": "tiny", "display_name": "tiny", "created_at": "2026-01-01"}
    assert daemon.ask("GET", "/v1/models").json["object"] == "list"
    named = {"anthropic_version": "2023-06-01"}
    assert daemon.ask("GET", "/v1/models/tiny", None, **named).json["display_name"] == "tiny"
    assert daemon.ask("GET", "/v1/models/no", None, **named).json["error"]["type"] == "not_found_error"
    assert daemon.ask("GET", "/v1/models?limit=x", None, **named).json["error"]["param"] == "limit"
    pages = [daemon.ask("GET", "/v1/models?limit=1", None, **named).json]
    while pages[-1]["has_more"]:
        after = pages[-1]["last_id"]
        path = f"/v1/models?limit=1&after_id={quote(after, safe='')}"
        pages.append(daemon.ask("GET", path, None, **named).json)
    assert [page["data"][0]["id"] for page in pages] == [model["id"] for model in ours["data"]]


def test_whose_request_it_is_reaches_the_backend(daemon: Served) -> None:
    answer = daemon.ask("POST", "/v1/messages", say("request", metadata={"user_id": "somebody"})).json
    assert "client='somebody'" in answer["content"][0]["text"]
    answer = daemon.ask("POST", "/v1/messages", say("request")).json
    assert "client='127.0.0.1'" in answer["content"][0]["text"]


def test_a_key_is_taken_as_these_clients_send_it(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("me = 0123456789abcdef0123\n")
    keys.chmod(0o600)
    options = ServeOptions(host="127.0.0.1", port=0, default_model="tiny", key_file=keys)
    with serving(None, options) as served:
        answer = served.ask("POST", "/v1/messages", say("request", metadata={"user_id": "else"}))
        assert answer.status == 401
        assert answer.json["error"]["type"] == "authentication_error"
        given = say("request", metadata={"user_id": "else"})
        answer = served.ask("POST", "/v1/messages", given, x_api_key="0123456789abcdef0123")
        assert "client='me'" in answer.json["content"][0]["text"], "a key's name is not the client's to choose"
