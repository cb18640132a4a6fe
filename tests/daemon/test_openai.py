"""OpenAI's dialect: golden files both ways, every split of a stream, and the real `openai` client, unchanged."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from localllm.api import Event, TextDelta
from localllm.daemon.body import MAX_DEPTH, check_free_form
from localllm.daemon.openai.chunks import ChatStream, CompletionStream
from localllm.daemon.sse import merged
from localllm.errors import InvalidRequestError
from tests.daemon.openai_cases import EVENTS, GOLDENS, HEAD, answer_goldens, request_goldens
from tests.daemon.serving import Served, chat_body, serving


def golden(name: str) -> Any:
    return json.loads((GOLDENS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("kind", "made"), [("requests", request_goldens), ("answers", answer_goldens)])
def test_translation_is_as_in_the_golden_files(kind: str, made: Any) -> None:
    wanted, found = golden(f"openai_{kind}"), made()
    assert set(found) == set(wanted)
    for name, value in found.items():
        assert value == wanted[name], name


@pytest.mark.parametrize("name", EVENTS)
def test_a_stream_says_the_same_however_it_is_cut(name: str) -> None:
    """Event by event, all at once, or merged: the client puts the same answer together."""
    events = EVENTS[name]
    for make in (
        lambda: ChatStream(HEAD, include_usage=True),
        lambda: CompletionStream(HEAD, include_usage=True, echoes=["Once"]),
    ):
        single = make()
        ways = [
            b"".join(single.encode([event]) for event in events),
            make().encode(events),
            make().encode(merged(list(events))),
        ]
        assert ways[0] == ways[1]
        assert put_together(ways[0]) == put_together(ways[2])


def put_together(data: bytes) -> dict[Any, Any]:
    """What a client makes of a stream."""
    lines = [line for line in data.decode().split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    whole: dict[Any, Any] = {}
    for line in lines[:-1]:
        chunk = json.loads(line.removeprefix("data: "))
        assert chunk["id"] == HEAD.id
        assert chunk["created"] == HEAD.created
        for choice in chunk["choices"]:
            said = whole.setdefault(choice["index"], {"text": "", "reasoning": "", "calls": {}, "reason": None})
            delta = choice.get("delta", choice)
            said["text"] += delta.get("content", "") or delta.get("text", "")
            said["reasoning"] += delta.get("reasoning_content", "")
            for call in delta.get("tool_calls", []):
                known = said["calls"].setdefault(call["index"], {"arguments": ""})
                known |= {name: call[name] for name in ("id", "type") if name in call}
                known["name"] = call["function"].get("name", known.get("name"))
                known["arguments"] += call["function"]["arguments"]
            assert said["reason"] is None, "a chunk after the last one"
            said["reason"] = choice["finish_reason"]
        whole["usage"] = chunk.get("usage", whole.get("usage"))
    return whole


def test_text_of_any_kind_survives_a_chunk() -> None:
    for text in ('"', "\\", "\n\n", "data: x\n\n", "\x00\x1f", "\u2028", "👩‍👩‍👧", "</script>"):
        events: list[Event] = [TextDelta(text), *EVENTS["nothing"]]
        assert put_together(ChatStream(HEAD, include_usage=False).encode(events))[0]["text"] == text


def test_free_form_values_are_bounded() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = {"a": [value]} if isinstance(value, int) else {"a": value}
    with pytest.raises(InvalidRequestError, match="nested"):
        check_free_form({"a": value}, "schema")
    with pytest.raises(InvalidRequestError, match="parts"):
        check_free_form([0] * 100_000, "schema")
    check_free_form({"a": [1, {"b": None}]}, "schema")


# --- the client -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daemon() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def client(daemon: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def user(words: str) -> Any:
    return [{"role": "user", "content": words}]


def test_client_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=user("echo hello there"))
    assert answer.choices[0].message.content == "hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 10
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 4


def test_client_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="tiny", messages=user("think a b"), stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "you said: think a b"
    reasoning = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert reasoning.startswith("let me see")
    assert chunks[-1].usage is not None
    assert not chunks[-1].choices


def test_client_tool_calls(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    answer = client.chat.completions.create(model="tiny", messages=user("call"), tools=[tool])
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"a": 1}
    named: Any = {"type": "function", "function": {"name": "sub"}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="tiny", messages=user("call"), tools=[tool], tool_choice=named)
    assert refused.value.param == "tool_choice"
    with client.chat.completions.create(
        model="tiny", messages=user("call"), tools=[tool], tool_choice="required", stream=True
    ) as stream:
        deltas = [choice.delta for chunk in stream for choice in chunk.choices]
    (part,) = [call for delta in deltas for call in delta.tool_calls or []]
    assert part.function is not None
    assert (part.index, part.function.name) == (0, "add")


def test_client_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt=["echo a", "echo b"], echo=True)
    assert [choice.text for choice in answer.choices] == ["echo aa", "echo bb"]
    ids = client.completions.create(model="tiny", prompt=[104, 105], echo=True, max_tokens=3)
    assert ids.choices[0].text == "hixxx"
    stream = client.completions.create(model="tiny", prompt="echo a b", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "a b"


def test_client_embeddings(client: openai.OpenAI) -> None:
    """The client asks for base64 of its own accord."""
    made = client.embeddings.create(model="tiny", input=["one two", "three"])
    assert [entry.embedding for entry in made.data] == [[7.0, 2.0], [5.0, 1.0]]
    assert made.usage.prompt_tokens == 12
    plain = client.embeddings.create(model="tiny", input="one", encoding_format="float")
    assert plain.data[0].embedding == [3.0, 1.0]
    packed = client.embeddings.create(model="tiny", input=[97, 98], encoding_format="base64")
    assert struct.unpack("<2f", base64.b64decode(str(packed.data[0].embedding))) == (2.0, 1.0)


def test_client_models(client: openai.OpenAI) -> None:
    assert "tiny" in [model.id for model in client.models.list()]
    assert client.models.retrieve("smollm2:135m").owned_by == "localllm"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("hf:owner/repo/file.gguf")


def test_client_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="absent", messages=user("x"))
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="tiny", messages=user("x"), temperature=-1)
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.InternalServerError) as crashed:
        client.chat.completions.create(model="tiny", messages=user("fail"))
    assert crashed.value.status_code == 503
    stream = client.chat.completions.create(model="tiny", messages=user("interrupted"), stream=True)
    with pytest.raises(openai.APIError, match="died midway"):
        list(stream)


def test_client_structured_output_reaches_the_backend(client: openai.OpenAI) -> None:
    schema: Any = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"type": "object"}}}
    answer = client.chat.completions.create(model="tiny", messages=user("request"), response_format=schema)
    assert "constraint=JsonSchema(schema={'type': 'object'})" in str(answer.choices[0].message.content)


def test_rerank(daemon: Served) -> None:
    body = {"query": "x", "documents": ["a", {"text": "longer"}, "bb"], "top_n": 2, "return_documents": True}
    answer = daemon.ask("POST", "/v1/rerank", body).json
    assert [(result["index"], result["document"]["text"]) for result in answer["results"]] == [(1, "longer"), (2, "bb")]
    assert answer["usage"]["total_tokens"] == 9
    assert daemon.ask("POST", "/v1/rerank", {"query": "x", "documents": []}).json["error"]["param"] == "documents"
    assert daemon.ask("POST", "/v1/embeddings", {"input": ["a", 1]}).json["error"]["param"] == "input"
    assert daemon.ask("POST", "/v1/embeddings", {"input": "fail"}).status == 400


def test_input_tokens(daemon: Served) -> None:
    answer = daemon.ask("POST", "/v1/chat/completions/input_tokens", chat_body("hello"))
    assert answer.json["input_tokens"] > 0


def test_who_asks_and_how_long_at_most_reach_the_backend(daemon: Served) -> None:
    said = daemon.chat("request").json["choices"][0]["message"]["content"]
    assert "client='127.0.0.1'" in said
    assert "deadline_s=1800.0" in said
    assert "request_id='chatcmpl-" in said
