"""Ollama's dialect: golden files both ways, every split of a stream, and its routes over the scripted Backend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from localllm.api import Event, LoadOptions, Progress, TextDelta
from localllm.config import Settings
from localllm.daemon.ollama.answers import AnswerStream, Kind
from localllm.daemon.ollama.keep_alive import keep_alive_s
from localllm.daemon.ollama.status import StatusStream
from localllm.daemon.ollama.values import API_VERSION
from localllm.daemon.run import ServeOptions
from localllm.daemon.sse import merged
from localllm.errors import InvalidRequestError, ModelNotFoundError
from tests.daemon.ollama_cases import (
    CHATS,
    CREATES,
    EMBEDS,
    EVENTS,
    GENERATES,
    GOLDENS,
    TOOL,
    answer_goldens,
    request_goldens,
    stamp,
    tally,
)
from tests.daemon.serving import Answer, ScriptedBackend, Served, read_all, serving

MODEL = "smollm2:135m"


def golden(name: str) -> Any:
    return json.loads((GOLDENS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("kind", "made"), [("requests", request_goldens), ("answers", answer_goldens)])
def test_translation_is_as_in_the_golden_files(kind: str, made: Any) -> None:
    wanted, found = golden(f"ollama_{kind}"), made()
    assert set(found) == set(wanted)
    for name, value in found.items():
        assert value == wanted[name], name


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("kind", ["chat", "generate"])
def test_a_stream_says_the_same_however_it_is_cut(name: str, kind: Kind) -> None:
    events = EVENTS[name]

    def make() -> AnswerStream:
        return AnswerStream("tiny", kind, tally(), stamp)

    single = make()
    ways = [
        b"".join(single.encode([event]) for event in events),
        make().encode(events),
        make().encode(merged(list(events))),
    ]
    assert ways[0] == ways[1]
    assert put_together(ways[0]) == put_together(ways[2])


def put_together(data: bytes) -> dict[str, Any]:
    """What a client makes of a stream."""
    values = [json.loads(line) for line in data.splitlines()]
    assert [value["done"] for value in values] == [False] * (len(values) - 1) + [True]
    whole: dict[str, Any] = {"text": "", "thinking": "", "calls": [], "end": values[-1]}
    for value in values:
        said = value.get("message", value)
        whole["text"] += said.get("content", "") or said.get("response", "")
        whole["thinking"] += said.get("thinking", "")
        whole["calls"] += said.get("tool_calls", [])
    return whole


def test_text_of_any_kind_survives_a_line() -> None:
    for text in ('"', "\\", "\n\n", "\r", "\x00\x1f", "\u2028", "👩‍👩‍👧", '{"done":true}'):
        events: list[Event] = [TextDelta(text), *EVENTS["nothing"]]
        data = AnswerStream("tiny", "chat", tally(), stamp).encode(events)
        assert data.count(b"\n") == 2
        assert put_together(data)["text"] == text


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, None),
        (0, 0.0),
        ("0", 0.0),
        ("0s", 0.0),
        (300, 300.0),
        (1.5, 1.5),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("300ms", 0.3),
        ("+2s", 2.0),
        ("1h1m1s1ms1us1ns", 3661.001001001),
        (-1, -1.0),
        (-0.001, -1.0),
        (1e300, -1.0),
        ("9999999h", -1.0),
        ("-1m", -1.0),
    ],
)
def test_keep_alive(given: Any, seconds: float | None) -> None:
    found = keep_alive_s(given)
    assert found == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    "given", ["", "5", "m", "5 m", "5m ", "five", "1h-1m", "5M", "--1s", "9" * 400 + "h", ".s", "∞s"]
)
def test_what_is_no_duration_is_refused(given: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        keep_alive_s(given)
    assert refused.value.facts["param"] == "keep_alive"


# --- routes over a script ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daemon() -> Iterator[Served]:
    with serving() as served:
        yield served


def chat(daemon: Served, words: str, /, **fields: Any) -> Answer:
    body = {"model": MODEL, "messages": [{"role": "user", "content": words}], **fields}
    return daemon.ask("POST", "/api/chat", body)


def generate(daemon: Served, words: str, /, **fields: Any) -> Answer:
    return daemon.ask("POST", "/api/generate", {"model": MODEL, "prompt": words, **fields})


def lines(answer: Answer) -> list[Any]:
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.body.splitlines()]


def test_clients_find_the_server(daemon: Served) -> None:
    root = daemon.ask("GET", "/")
    assert (root.status, root.body) == (200, b"Ollama is running")
    for path in ("/", "/api/version", "/api/tags"):
        head = daemon.ask("HEAD", path)
        assert (head.status, head.body) == (200, b"")
    version = daemon.ask("GET", "/api/version").json
    assert version["version"] == API_VERSION
    assert all(part.isdigit() for part in version["version"].split("."))


def test_streams_are_lines_by_default(daemon: Served) -> None:
    values = lines(chat(daemon, "echo one two"))
    assert "".join(value["message"]["content"] for value in values) == "one two"
    assert values[-1]["done_reason"] == "stop"
    end = values[-1]
    assert end["prompt_eval_count"] == 10
    assert end["eval_duration"] == 500_000_000
    assert end["total_duration"] > 0
    values = lines(generate(daemon, "echo one two"))
    assert "".join(value["response"] for value in values) == "one two"


def test_whole_answers(daemon: Served) -> None:
    answer = chat(daemon, "think a", stream=False)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["message"] == {
        "role": "assistant",
        "content": "you said: think a",
        "thinking": "let me see\x1b[2J",
    }
    assert answer.json["created_at"].endswith("Z")
    called = chat(daemon, "call", stream=False).json["message"]
    assert called["tool_calls"] == [{"id": "1", "function": {"index": 0, "name": "add", "arguments": {"a": 1}}}]
    assert generate(daemon, "cut x", stream=False).json["done_reason"] == "length"


def test_what_was_asked_reaches_the_backend(daemon: Served) -> None:
    said = chat(
        daemon,
        "request",
        stream=False,
        keep_alive="10m",
        format={"type": "object"},
        options={"temperature": 0.5, "num_gpu": 3},
        think=False,
    ).json
    text = said["message"]["content"]
    for part in ("keep_alive_s=600.0", "JsonSchema(schema={'type': 'object'})", "temperature=0.5", "think=False"):
        assert part in text
    assert "client='127.0.0.1'" in text
    assert "request_id='ollama-" in text
    assert [notice["kind"] for notice in said["notices"]] == ["options_ignored"]
    raw = generate(daemon, "request", stream=False, raw=True).json["response"]
    assert "CompletionRequest" in raw
    assert "parse_special=True" in raw
    assert "system=hush" in generate(daemon, "messages", stream=False, system="hush").json["response"]


def test_context_is_the_prompt_and_the_answer(daemon: Served) -> None:
    first = generate(daemon, "echo b", stream=False).json
    assert first["context"] == [*map(ord, "user: echo b\n"), ord("b")]
    second = lines(generate(daemon, "echo", context=first["context"], options={"num_predict": 2}))[-1]
    num_next = len("user: echo\n")
    assert second["context"][: len(first["context"]) + num_next] == [*first["context"], *map(ord, "user: echo\n")]
    assert "context" not in generate(daemon, "echo b", stream=False, raw=True).json
    assert "context" not in chat(daemon, "echo b", stream=False).json


def test_more_context_than_there_is_is_said(daemon: Served) -> None:
    (notice,) = chat(daemon, "echo a", stream=False, options={"num_ctx": 10_000}).json["notices"]
    assert notice["facts"] == {"num_ctx": 8192, "wanted": 10_000}
    assert "notices" not in chat(daemon, "echo a", stream=False, options={"num_ctx": 8192}).json


def test_a_model_that_is_known_not_to_think_is_not_asked_to(daemon: Served) -> None:
    answer = chat(daemon, "think", think=True)
    assert answer.status == 400
    assert "does not support thinking" in answer.json["error"]
    assert chat(daemon, "think", think=True, model="tiny", stream=False).status == 200, "nothing is known of it"


def test_the_exact_prompt(daemon: Served) -> None:
    shown = chat(daemon, "hello", _debug_render_only=True).json
    assert shown["_debug_info"] == {"rendered_template": "user: hello\n"}
    assert generate(daemon, "x", raw=True, _debug_render_only=True).json["_debug_info"]["rendered_template"] == "x"


def test_errors(daemon: Served) -> None:
    absent = chat(daemon, "x", model="absent")
    assert absent.status == 404
    assert "absent" in absent.json["error"]
    assert absent.json["code"] == "model_not_found"
    crashed = chat(daemon, "fail")
    assert crashed.status == 503
    assert crashed.json["error"] == "the engine died"
    values = lines(chat(daemon, "interrupted"))
    assert values[0]["message"]["content"] == "half an ans"
    assert values[-1]["error"] == "the engine died midway"
    assert "done" not in values[-1]
    assert chat(daemon, "interrupted", stream=False).status == 503
    unknown = daemon.ask("GET", "/api/nothing")
    assert unknown.status == 404
    assert set(unknown.json) == {"error", "code"}
    wrong = daemon.ask("GET", "/api/chat")
    assert wrong.status == 405
    assert isinstance(wrong.json["error"], str)
    for body in (b"", b"{", b"[]", b"\xff", b'{"model": 3}'):
        refused = daemon.ask("POST", "/api/chat", body)
        assert refused.status == 400
        assert isinstance(refused.json["error"], str)


def test_bodies_of_any_type_but_not_from_pages(daemon: Served) -> None:
    """curl calls JSON a form; a page could send a form anywhere without asking."""
    body = json.dumps({"model": MODEL, "prompt": "echo a", "stream": False}).encode()
    form = "application/x-www-form-urlencoded"
    assert daemon.ask("POST", "/api/generate", body, content_type=form).status == 200
    page = daemon.ask("POST", "/api/generate", body, content_type=form, origin="http://localhost:3000")
    assert page.status == 415
    assert isinstance(page.json["error"], str)


def test_hosts_origins_and_keys_hold(tmp_path: Any) -> None:
    keys = tmp_path / "keys"
    keys.write_text("anna = " + "k" * 32 + "\n")
    keys.chmod(0o600)
    options = ServeOptions(host="127.0.0.1", port=0, default_model=MODEL, key_file=keys)
    paths = [("GET", "/"), ("GET", "/api/tags"), ("POST", "/api/pull"), ("DELETE", "/api/delete")]
    with serving(None, options) as daemon:
        for method, path in [*paths, ("HEAD", "/api/blobs/sha256:" + "0" * 64)]:
            assert daemon.ask(method, path, host="evil.example").status == 403
            assert daemon.ask(method, path, origin="https://evil.example").status == 403
            assert daemon.ask(method, path).status == 401
        assert isinstance(daemon.ask("GET", "/api/tags").json["error"], str)
        assert daemon.ask("GET", "/api/tags", authorization="Bearer " + "k" * 32).status == 200


def test_a_quiet_stream_stays_whole_lines() -> None:
    """No ping, which clients of this API would read as a broken line."""
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hang"}]}).encode()
    with serving(ping_s=0.02) as daemon, daemon.connect() as sock:
        sock.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        data = b""
        while b"waiting" not in data:
            data += sock.recv(65536)
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(65536)
        sock.close()
        assert daemon.backend.closed.wait(5), "the answer went on for nobody"


def test_a_drain_ends_a_stream_with_one_error_line() -> None:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hang"}]}).encode()
    with serving() as daemon:
        sock = daemon.connect()
        sock.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        data = b""
        while b"waiting" not in data:
            data += sock.recv(65536)
    with sock:
        rest = read_all(sock)
    assert rest.count(b'{"error"') == 1
    assert b"shutting down" in rest


class Forgetful(ScriptedBackend):
    """The script, that says of a model which is not loaded what the Service says."""

    async def unload(self, model: str) -> None:
        if model not in self.loaded:
            raise ModelNotFoundError(f"{model} is not loaded", name=model)
        await super().unload(model)


def test_loading_and_unloading() -> None:
    with serving(Forgetful(Settings(), LoadOptions())) as daemon:

        def loaded() -> list[str]:
            return [model["name"] for model in daemon.ask("GET", "/api/ps").json["models"]]

        said = generate(daemon, "").json
        assert said.pop("created_at").endswith("Z")
        assert said == {"model": MODEL, "response": "", "done": True, "done_reason": "load"}
        assert loaded() == [MODEL]
        said = daemon.ask("POST", "/api/chat", {"model": MODEL, "messages": [], "keep_alive": 0}).json
        assert said["message"] == {"role": "assistant", "content": ""}
        assert said["done_reason"] == "unload"
        assert loaded() == []
        assert generate(daemon, "", keep_alive="0s").json["done_reason"] == "unload"
        assert daemon.ask("POST", "/api/chat", {"model": MODEL}).json["done_reason"] == "load"
        assert generate(daemon, "", model="absent", keep_alive=0).status == 404
        assert generate(daemon, "", model="absent").status == 404


def test_embeddings(daemon: Served) -> None:
    made = daemon.ask("POST", "/api/embed", {"model": "tiny", "input": ["one two", "three"], "truncate": False}).json
    assert made["embeddings"] == [[7.0, 2.0], [5.0, 1.0]]
    assert made["prompt_eval_count"] == 12
    assert made["total_duration"] > 0
    assert "notices" not in made
    cut = daemon.ask("POST", "/api/embed", {"model": "tiny", "input": "one"}).json
    assert cut["embeddings"] == [[3.0, 1.0]]
    assert cut["notices"][0]["facts"] == {"num_truncated": 1}
    assert daemon.ask("POST", "/api/embed", {"model": "tiny"}).json["embeddings"] == []
    assert daemon.ask("POST", "/api/embed", {"model": "tiny", "input": "fail"}).status == 400
    old = daemon.ask("POST", "/api/embeddings", {"model": "tiny", "prompt": "one"}).json
    assert old == {"embedding": [3.0, 1.0]}
    assert daemon.ask("POST", "/api/embeddings", {"model": "tiny"}).json == {"embedding": []}


def test_models(daemon: Served) -> None:
    models = daemon.ask("GET", "/api/tags").json["models"]
    (found,) = [model for model in models if model["name"] == MODEL]
    assert found["details"] == {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "134.52M",
        "quantization_level": "Q4_1",
    }
    assert found["digest"] == "b1" * 32
    assert found["size"] == 98_362_432
    chat(daemon, "echo a", stream=False)
    (running,) = [m for m in daemon.ask("GET", "/api/ps").json["models"] if m["name"] == MODEL]
    assert running["context_length"] == 8192
    assert running["digest"] == "b1" * 32


def test_each_file_of_a_pull_has_a_bar_of_its_own() -> None:
    digests = [f"sha256:{letter * 64}" for letter in "ab"]
    stream = StatusStream()
    data = b""
    for number, digest in enumerate(digests):
        for done in (0, 50, 100):
            data += stream.encode([Progress("download", "m", number * 100 + done, 200, "bytes", digest, done, 100)])
    assert [json.loads(line) for line in data.splitlines()] == [
        {"status": f"pulling {digest[7:19]}", "digest": digest, "total": 100, "completed": done}
        for digest in digests
        for done in (0, 50, 100)
    ]


def test_pull_and_push() -> None:
    with serving() as daemon:
        values = lines(daemon.ask("POST", "/api/pull", {"model": "new"}))
        assert values[-1] == {"status": "success"}
        assert {"status": "pulling new", "completed": 1000, "total": 1000} in values
        assert daemon.ask("POST", "/api/pull", {"name": "new", "stream": False}).json == {"status": "success"}
        assert daemon.ask("POST", "/api/pull", {"model": "absent"}).status == 404
        assert daemon.ask("POST", "/api/pull", {"model": "unreachable", "stream": False}).status == 502
        for name in ("https://example.com/x.gguf", "./x.gguf", "/etc/x.gguf"):
            assert daemon.ask("POST", "/api/pull", {"model": name}).status == 404
        assert daemon.ask("POST", "/api/pull", {}).json["param"] == "model"
        push = daemon.ask("POST", "/api/push", {"model": "new"})
        assert push.status == 400
        assert "push" in push.json["error"]


class SlowPull(ScriptedBackend):
    """A pull whose second half comes when it is let."""

    async def pull(self, model: str) -> AsyncIterator[Progress]:
        yield Progress("download", model, 1, 2)
        while not self.begun.is_set():
            await asyncio.sleep(0.01)
        yield Progress("download", model, 2, 2)


def test_progress_comes_while_there_is_some() -> None:
    with serving(SlowPull(Settings(), LoadOptions())) as daemon, daemon.connect() as sock:
        sock.sendall(b'POST /api/pull HTTP/1.0\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n{"model":"new"}')
        data = b""
        while b'"completed":1' not in data:
            piece = sock.recv(65536)
            assert piece, data
            data += piece
        assert b"success" not in data
        daemon.backend.begun.set()
        assert b'{"status":"success"}' in read_all(sock)


def test_paths_to_files_are_no_models(daemon: Served) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/api/chat": {"messages": [{"role": "user", "content": "x"}]},
        "/api/generate": {"prompt": "x"},
        "/api/embed": {"input": "x"},
        "/api/embeddings": {"prompt": "x"},
    }
    for path, body in bodies.items():
        assert daemon.ask("POST", path, {"model": "/etc/passwd.gguf", **body}).status == 404
    context = {"prompt": "x", "context": [1]}
    assert daemon.ask("POST", "/api/generate", {"model": "/etc/passwd.gguf", **context}).status == 404
    assert daemon.ask("POST", "/api/generate", {"model": "/etc/passwd.gguf"}).status == 404


ROUTES: dict[str, dict[str, Any]] = {
    "/api/chat": {**CHATS["options"], "stream": False, "tools": [TOOL], "keep_alive": "5m", "think": False},
    "/api/generate": {**GENERATES["system"], "suffix": "", "raw": False, "format": "json", "stream": False},
    "/api/embed": {**EMBEDS["several"], "options": {"num_ctx": 5}},
    "/api/embeddings": {"model": "tiny", "prompt": "a", "keep_alive": 3},
    "/api/show": {"model": "tiny", "verbose": True},
    "/api/copy": {"source": "tiny", "destination": "other"},
    "/api/pull": {"model": "new", "stream": False},
    "/api/create": {**CREATES["from"], "stream": False, "license": ["MIT"], "modelfile": None},
}
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        2**31,
        2**63,
        -(2**64),
        1e300,
        0.5,
        "",
        "x",
        "\x00",
        "\ud800".encode("utf-8", "replace").decode(),
    ),
    *(
        "9" * 400,
        "a" * 5000,
        [],
        [None],
        [[]],
        {},
        {"a": {}},
        [{"role": "user"}],
        {"": ""},
        "../../etc/passwd",
        ":",
        "💥",
    ),
)


@pytest.mark.parametrize("path", ROUTES)
def test_no_body_makes_the_daemon_fail(daemon: Served, path: str) -> None:
    """Each field of a sound body in turn has an odd value, also inside; each is an answer or the client's error."""
    for body in spoilt(ROUTES[path]):
        answer = daemon.ask("POST", path, json.dumps(body).encode())
        assert answer.status < 500 or answer.json["code"] == "not_supported", (body, answer.body)
        if answer.status >= 400:
            assert isinstance(answer.json["error"], str)


def spoilt(value: Any) -> Iterator[Any]:
    """`value` with one part of it odd, for every part and oddity."""
    yield from ODD
    if isinstance(value, dict):
        for name, inside in value.items():
            yield from ({**value, name: odd} for odd in spoilt(inside))
    elif isinstance(value, list) and value:
        yield from ([odd, *value[1:]] for odd in spoilt(value[0]))
