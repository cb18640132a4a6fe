"""The native API on a running daemon over the scripted Backend. What it answers with real weights: tests/contract."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from localllm.api import ChatRequest, CompletionRequest, Finished, LoadOptions, Message, SamplingParams, TextDelta
from localllm.client import Client
from localllm.config import Settings
from localllm.daemon.app import DIALECTS
from localllm.daemon.keys import read_keys
from localllm.daemon.run import ServeOptions
from localllm.errors import (
    ConfigError,
    DaemonError,
    DaemonUnreachableError,
    EngineCrashedError,
    InvalidRequestError,
    LocalLLMError,
    ModelNotFoundError,
)
from tests.daemon.serving import ScriptedBackend, Served, serving

API = "/api/localllm/"
KEYS = {"me": "a-key-of-some-length", "you": "another-key-of-length"}


class Steerable(ScriptedBackend):
    """Says whom it was told to steer."""

    def __init__(self, settings: Settings, load_options: LoadOptions) -> None:
        super().__init__(settings, load_options)
        self.steered: list[tuple[str, str]] = []

    async def control(self, request_id: str, control: Any) -> bool:
        self.steered.append((request_id, control))
        return True


@pytest.fixture(scope="module")
def daemon() -> Iterator[Served]:
    options = ServeOptions(host="127.0.0.1", port=0, default_model="smollm2:135m", num_inspected=3)
    with serving(Steerable(Settings(), LoadOptions()), options) as served:
        yield served


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A daemon with two keys that keeps requests."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    lines = [f"{name} = sha256:{hashlib.sha256(key.encode()).hexdigest()}\n" for name, key in KEYS.items()]
    file.write_text("".join(lines))
    options = ServeOptions(host="127.0.0.1", port=0, default_model="tiny", key_file=file, num_inspected=2)
    with serving(Steerable(Settings(), LoadOptions()), options) as served:
        yield served


def chat_value(words: str, **fields: Any) -> dict[str, Any]:
    return {"model": "smollm2:135m", "messages": [{"role": "user", "content": words}], **fields}


def events_of(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: ")]


def begin(daemon: Served, words: str, request_id: str, key: str | None = None) -> socket.socket:
    """A chat under way: its first words were received."""
    body = json.dumps(chat_value(words, request_id=request_id)).encode()
    head = f"POST {API}chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {key}\r\n" if key else ""
    sock = daemon.connect()
    sock.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    data = b""
    while b'"type":"text"' not in data:
        data += sock.recv(65536)
    return sock


# --- streams ------------------------------------------------------------------------------------------------------


def test_a_chat_is_its_events(daemon: Served) -> None:
    answer = daemon.ask("POST", f"{API}chat", chat_value("echo hi there"))
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.body)
    assert "".join(event["text"] for event in events if event["type"] == "text") == "hi there"
    assert events[-1] == {
        "type": "finished",
        "reason": "stop",
        "usage": {"num_prompt_tokens": 10, "num_cached_tokens": 4, "num_output_tokens": 3},
        "timings": {"queue_s": 0.0, "prompt_s": 0.1, "decode_s": 0.5},
    }


def test_every_kind_of_event_is_there(daemon: Served) -> None:
    for words, kind in (("think", "reasoning"), ("call", "tool_call"), ("notice", "notice")):
        events = events_of(daemon.ask("POST", f"{API}chat", chat_value(words)).body)
        assert kind in {event["type"] for event in events}


def test_a_completion_and_a_gap(daemon: Served) -> None:
    answer = daemon.ask("POST", f"{API}complete", {"model": "tiny", "prompt": "echo one"})
    assert events_of(answer.body)[-1]["type"] == "finished"
    body = {"prefix": "request", "suffix": "END", "sampling": {"seed": 5}}
    (text, _) = events_of(daemon.ask("POST", f"{API}infill", body).body)
    assert "suffix='END'" in text["text"]
    assert "seed=5" in text["text"]
    assert "model='smollm2:135m'" in text["text"]


def test_an_error_before_and_after_the_first_event(daemon: Served) -> None:
    before = daemon.ask("POST", f"{API}chat", chat_value("fail"))
    assert before.status == 503
    assert before.json["error"]["type"] == "EngineCrashedError"
    after = daemon.ask("POST", f"{API}chat", chat_value("interrupted"))
    assert after.status == 200
    last = events_of(after.body)[-1]
    assert last["type"] == "error"
    assert last["error"]["message"] == "the engine died midway"
    assert last["error"]["hint"] == "ask again"


def test_a_load_and_a_pull_tell_how_far_they_are(daemon: Served) -> None:
    events = events_of(daemon.ask("POST", f"{API}pull", {"model": "new"}).body)
    assert [event.get("done", 0) for event in events] == [0, 500, 1000]
    events = events_of(daemon.ask("POST", f"{API}load", {"model": "new", "keep_alive_s": 60, "pin": True}).body)
    assert [event["done"] for event in events] == [0.5, 1.0]
    assert daemon.backend.log[-1] == "load new keep_alive_s=60.0 pin=True"
    names = [model["name"] for model in daemon.ask("GET", f"{API}loaded").json["models"]]
    assert "new" in names
    assert daemon.ask("POST", f"{API}unload", {"model": "new"}).json == {"model": "new"}
    assert daemon.ask("POST", f"{API}pull", {"model": "absent"}).status == 404


@pytest.mark.parametrize("model", ["./x.gguf", "https://example.com/x.gguf", "file:///etc/passwd"])
def test_clients_fetch_no_addresses_and_load_no_files(daemon: Served, model: str) -> None:
    for path in ("pull", "load"):
        answer = daemon.ask("POST", API + path, {"model": model})
        assert answer.status in (400, 404), (path, answer.body)


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat", {"model": "tiny"}, None),
        ("chat", {**chat_value("x"), "no_such_field": 1}, None),
        ("chat", chat_value("x", sampling={"temperature": "hot"}), "sampling.temperature"),
        ("chat", chat_value("x", priority=5), "priority"),
        ("chat", chat_value("x", adapters=[{"path": "/etc/passwd"}]), None),
        ("chat", chat_value("x", adapters=[{"path": "../up"}]), None),
        ("chat", chat_value("x", adapters=[{"path": "here.gguf"}]), None),
        ("chat", chat_value("x", template_args={"chat_template": "{{ x }}"}), "template_args.chat_template"),
        ("chat", chat_value("x", messages=[{"role": "user", "content": "x"}] * 5000), "messages"),
        ("chat", chat_value("x", tools=[{"name": f"t{n}"} for n in range(600)]), "tools"),
        ("embed", {"model": "tiny", "inputs": ["x"] * 3000}, "inputs"),
        ("rerank", {"model": "tiny", "query": "q", "documents": ["x"] * 3000}, "documents"),
        ("detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("control", {"id": "", "control": "stop"}, "id"),
        ("load", {"model": ""}, "model"),
    ],
)
def test_what_is_refused_and_where(daemon: Served, path: str, body: Any, param: str | None) -> None:
    answer = daemon.ask("POST", API + path, body)
    assert answer.status == 400, answer.body
    assert answer.json["error"].get("param") == param


def test_an_id_that_runs_cannot_be_taken_again(daemon: Served) -> None:
    with begin(daemon, "hang", "twice"):
        again = daemon.ask("POST", f"{API}chat", chat_value("echo hi", request_id="twice"))
        assert again.status == 400
        assert again.json["error"]["param"] == "request_id"


# --- the queue ----------------------------------------------------------------------------------------------------


def test_the_queue_shows_who_runs_and_ids_to_their_owners_only(locked: Served) -> None:
    """T31."""
    mine, yours = ({"authorization": f"Bearer {KEYS[name]}"} for name in ("me", "you"))
    with begin(locked, "hang", "secret-name", KEYS["me"]):
        (seen,) = locked.ask("GET", f"{API}queue", **mine).json["requests"]
        assert seen.pop("seconds") >= 0
        assert seen == {"model": "smollm2:135m", "kind": "chat", "state": "running", "id": "secret-name"}
        theirs = locked.ask("GET", f"{API}queue", **yours)
        assert "secret-name" not in theirs.body.decode()
        assert len(theirs.json["requests"]) == 1
        steer = {"id": "secret-name", "control": "stop"}
        assert locked.ask("POST", f"{API}control", steer, **yours).status == 404
        assert locked.backend.steered == []
        assert locked.ask("POST", f"{API}control", steer, **mine).status == 200
        assert locked.backend.steered == [("secret-name", "stop")]


def test_who_runs_the_daemon_may_steer_any_request(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"me = sha256:{hashlib.sha256(KEYS['me'].encode()).hexdigest()}\n")
    options = ServeOptions(host="127.0.0.1", port=0, default_model="smollm2:135m", key_file=file)
    own = "the-key-of-this-user"
    with serving(Steerable(Settings(), LoadOptions()), options, own) as served, begin(served, "hang", "x", KEYS["me"]):
        asked = served.ask("GET", f"{API}queue", authorization=f"Bearer {own}")
        assert [request["id"] for request in asked.json["requests"]] == ["x"]
        first = {"id": "x", "control": "first"}
        assert served.ask("POST", f"{API}control", first, authorization=f"Bearer {own}").status == 200
        assert served.backend.steered == [("x", "first")]


def test_the_log_is_for_those_who_manage(daemon: Served, tmp_path: Path) -> None:
    recent = daemon.server._app.daemon.recent
    record = logging.LogRecord("localllm.pool", logging.INFO, "", 0, "%r is loaded\nevil", ("tiny",), None)
    recent.handle(record)
    lines = asyncio.run(Client(daemon.url).log())
    assert [line.partition(" ")[2].partition(" ")[2] for line in lines] == ["INFO localllm.pool: 'tiny' is loaded", ""]
    file = tmp_path / "keys"
    file.write_text(f"asks = sha256:{hashlib.sha256(KEYS['me'].encode()).hexdigest()} infer\n")
    options = ServeOptions(host="127.0.0.1", port=0, default_model="smollm2:135m", key_file=file)
    with serving(None, options) as served:
        assert served.ask("GET", f"{API}log", authorization=f"Bearer {KEYS['me']}").status == 403


def test_no_key_of_a_file_has_the_name_of_the_daemons_own(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"localllm = sha256:{'0' * 64}\n")
    with pytest.raises(ConfigError, match="the daemon's own"):
        read_keys(file)


def test_the_status_stream_tells_changes_and_ends_with_the_daemon(daemon: Served) -> None:
    async def main() -> None:
        client = Client(daemon.url)
        statuses = client.status()
        async with asyncio.timeout(10):
            first = await anext(statuses)
            assert first.num_places == 128
            with begin(daemon, "hang", "watched"):
                async for status in statuses:
                    if any(request.id == "watched" for request in status.requests):
                        break
            async for status in statuses:
                if not status.requests:
                    break
            await statuses.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())


# --- the inspector ------------------------------------------------------------------------------------------------


def test_the_last_requests_are_shown_whole_and_asked_again(daemon: Served) -> None:
    for number in range(4):
        daemon.ask("POST", f"{API}chat", chat_value(f"echo number {number}", request_id=f"n{number}"))
    listed = daemon.ask("GET", f"{API}inspect").json["requests"]
    assert [record["id"] for record in listed] == ["n3", "n2", "n1"]
    assert listed[0]["state"] == "finished"
    assert listed[0]["timings"]["decode_s"] == 0.5
    assert "number" not in json.dumps(listed)
    whole = daemon.ask("GET", f"{API}inspect/n2").json
    assert whole["prompt"] == "user: echo number 2\n"
    assert whole["tokens"] == [ord(char) for char in whole["prompt"]]
    assert whole["cached"] == [0, 4]
    assert whole["text"] == "number 2"
    assert whole["request"]["messages"][0]["content"] == "echo number 2"
    again = events_of(daemon.ask("POST", f"{API}inspect/n2/replay", {}).body)
    assert "".join(event["text"] for event in again if event["type"] == "text") == "number 2"
    assert daemon.ask("GET", f"{API}inspect/n0").status == 404
    daemon.ask("POST", f"{API}chat", chat_value("interrupted", request_id="cut"))
    cut = daemon.ask("GET", f"{API}inspect/cut").json
    assert (cut["state"], cut["error"], cut["text"]) == ("failed", "the engine died midway", "half an ans")


def test_nobody_inspects_what_another_key_asked(locked: Served) -> None:
    """T31."""
    mine, yours = ({"authorization": f"Bearer {KEYS[name]}"} for name in ("me", "you"))
    locked.ask("POST", f"{API}chat", chat_value("echo CANARY", request_id="mine"), **mine)
    assert locked.ask("GET", f"{API}inspect/mine", **mine).status == 200
    assert locked.ask("GET", f"{API}inspect/mine", **yours).status == 404
    assert locked.ask("POST", f"{API}inspect/mine/replay", {}, **yours).status == 404
    assert locked.ask("GET", f"{API}inspect", **yours).json == {"requests": []}


def test_without_the_switch_nothing_is_kept() -> None:
    with serving() as served:
        served.ask("POST", f"{API}chat", chat_value("echo CANARY", request_id="x"))
        for method, path in (("GET", "inspect"), ("GET", "inspect/x"), ("POST", "inspect/x/replay")):
            answer = served.ask(method, API + path, {} if method == "POST" else None)
            assert answer.status == 404
            assert answer.json["error"]["code"] == "inspector_off"


# --- the client ---------------------------------------------------------------------------------------------------


def ask(daemon: Served, words: str, **options: Any) -> list[Any]:
    async def main() -> list[Any]:
        client = Client(daemon.url, **options)
        return [event async for event in client.chat(ChatRequest("tiny", (Message("user", words),)))]

    return asyncio.run(main())


def test_the_client_gets_events_and_errors_of_their_class(daemon: Served) -> None:
    events = ask(daemon, "echo hi")
    assert isinstance(events[-1], Finished)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "hi"
    for words, error in (("fail", EngineCrashedError), ("interrupted", EngineCrashedError)):
        with pytest.raises(error) as caught:
            ask(daemon, words)
        assert caught.value.hint == "ask again"
    with pytest.raises(LocalLLMError, match="daemon failed") as failed:
        ask(daemon, "bug")
    assert "a bug in the program" not in failed.value.message


def test_the_client_needs_the_key(locked: Served) -> None:
    assert ask(locked, "echo hi", key=KEYS["me"])
    with pytest.raises(DaemonError, match="a key is needed"):
        ask(locked, "echo hi")
    with pytest.raises(DaemonError, match="not known"):
        ask(locked, "echo hi", key="wrong-key-but-long-enough")


@pytest.mark.parametrize("url", ["", "localhost:1", "ftp://x", "http://", "http://a b", "unix:", "http://x:99999999"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="no address of a daemon"):
        Client(url)


def test_nobody_there_and_somebody_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(DaemonUnreachableError, match="no daemon at"):
        asyncio.run(Client(f"http://127.0.0.1:{port}").list_models())


def test_answers_of_something_else_are_named() -> None:
    async def main(answer: bytes) -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            await Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}").list_models()

    html = b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>"
    with pytest.raises(DaemonError, match="no localllm daemon: it answers 404"):
        asyncio.run(main(html))
    with pytest.raises(DaemonError, match="does not know"):
        asyncio.run(main(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
    for cut in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{", b"SSH-2.0-x\r\n\r\n"):
        with pytest.raises(DaemonUnreachableError):
            asyncio.run(main(cut))


def test_the_last_event_of_a_cut_stream_is_an_error(daemon: Served) -> None:
    """A daemon that goes away in the middle of a stream is an error, not a short answer."""

    async def main() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            event = b'data: {"type":"text","text":"half"}\n\n'
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer.write(head + b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            client = Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            async for event in client.complete(CompletionRequest("m", "x")):
                assert event == TextDelta("half")

    assert daemon.is_alive()
    with pytest.raises(DaemonUnreachableError):
        asyncio.run(main())


def test_requests_travel_unchanged() -> None:
    request = ChatRequest(
        "m",
        (Message("user", "x"),),
        SamplingParams(logit_bias={5: -1.0}, stop=("a",)),
        template_args={"a": [1, {"b": None}]},
        keep_alive_s=0.0,
    )
    assert msgspec.json.decode(msgspec.json.encode(request), type=ChatRequest) == request


def test_errors_that_have_no_class_here_are_the_daemons(daemon: Served) -> None:
    async def main() -> None:
        with pytest.raises(InvalidRequestError):
            await Client(daemon.url).detokenize("tiny", [-5])
        with pytest.raises(ModelNotFoundError):
            await Client(daemon.url).unload("./x.gguf")
        with pytest.raises(DaemonError, match="there is no such path"):
            await Client(daemon.url).inspect("../../props")

    asyncio.run(main())


def test_a_key_for_asking_neither_loads_nor_changes_anything(tmp_path: Path) -> None:
    """T08."""
    keys = tmp_path / "keys"
    hashed = {name: f"sha256:{hashlib.sha256(key.encode()).hexdigest()}" for name, key in KEYS.items()}
    keys.write_text(f"me = {hashed['me']}\nyou = {hashed['you']} infer\n")
    options = ServeOptions(host="127.0.0.1", port=0, default_model="tiny", key_file=keys)
    managing = [(e.method, e.path) for dialect in DIALECTS for e in dialect.endpoints if e.manages]
    assert {"/api/localllm/pull", "/api/localllm/reload", "/api/delete", "/api/pull"} <= {path for _, path in managing}
    with serving(options=options) as served:
        may, may_not = ({"authorization": f"Bearer {KEYS[name]}"} for name in ("me", "you"))
        for method, path in managing:
            answer = served.ask(method, path, {"model": "new"} if method == "POST" else None, **may_not)
            assert answer.status == 403, path
        assert "new" not in served.backend.models
        assert served.ask("POST", f"{API}chat", chat_value("echo hi"), **may_not).status == 200
        assert served.ask("POST", f"{API}load", {"model": "tiny"}, **may).status == 200
