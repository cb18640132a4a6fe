"""Routes and who may reach them, on the running daemon; and its own pages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.daemon.app import DIALECTS
from localllm.daemon.run import ServeOptions
from localllm.errors import ConfigError
from tests.daemon.serving import CHAT, Served, chat_body, serving

ROUTES = sorted({(endpoint.method, endpoint.path) for dialect in DIALECTS for endpoint in dialect.endpoints})
KEY = "a-key-of-some-length"


def path_of(template: str) -> str:
    return template.replace("{id:path}", "tiny")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A daemon with keys, and one origin whose pages may ask."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"me = sha256:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
    options = ServeOptions(
        host="127.0.0.1", port=0, default_model="tiny", key_file=file, origins=("https://app.example",)
    )
    with serving(options=options) as served:
        yield served


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_answers_other_names_or_pages(daemon: Served, method: str, path: str) -> None:
    """T01, T02: refused before any work."""
    body: Any = chat_body("echo hi") if method == "POST" else None
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.com"}, {"origin": "null"}):
        answer = daemon.ask(method, path_of(path), body, **headers)
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers
    assert not daemon.backend.begun.is_set()


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_but_health_wants_the_key(locked: Served, method: str, path: str) -> None:
    """T05."""
    if path == "/health":
        assert locked.ask(method, path).status == 200
        return
    answer = locked.ask(method, path_of(path))
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert locked.ask(method, path_of(path), authorization="Bearer wrong" + KEY).status in (401, 429)


@pytest.mark.parametrize(
    "path", ["//v1/models", "/V1/models", "/%2e/v1/models", "/v1/models/", "/v1/%6dodels", "/", "/x"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
def test_odd_spellings_want_it_too(locked: Served, method: str, path: str) -> None:
    assert locked.ask(method, path).status == 401


def test_a_key_opens(locked: Served) -> None:
    assert locked.ask("GET", "/v1/models", authorization=f"Bearer {KEY}").status == 200
    assert locked.ask("POST", CHAT, chat_body("echo hi"), x_api_key=KEY).status == 200


def test_cors_for_the_configured_origin_only(locked: Served) -> None:
    """T03: the browser's question, then the request, whose error the page may read too."""
    asked = {"origin": "https://app.example", "access_control_request_method": "POST"}
    answer = locked.ask("OPTIONS", CHAT, access_control_request_headers="authorization,content-type", **asked)
    assert answer.status == 204
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
    refused = locked.ask("POST", CHAT, chat_body("echo hi"), origin="https://app.example")
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] == "https://app.example"
    evil = locked.ask("OPTIONS", CHAT, **(asked | {"origin": "http://evil.com"}))
    assert evil.status == 403
    assert not any(name.startswith("access-control") for name in evil.headers)


def test_unknown_paths_and_methods(daemon: Served) -> None:
    assert daemon.ask("GET", "/v1/nothing").status == 404
    assert daemon.ask("GET", "/v1/nothing").json["error"]["code"] == "unknown_path"
    assert daemon.ask("GET", "/api/localllm/nothing").json == {
        "error": {"code": "unknown_path", "message": "there is no such path"}
    }
    answer = daemon.ask("GET", CHAT)
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    assert daemon.ask("GET", "/ws", upgrade="websocket", connection="upgrade").status == 404


def test_names_with_control_characters_do_not_reach_headers_or_logs(daemon: Served, caplog: Any) -> None:
    """T14."""
    caplog.set_level("DEBUG")
    answer = daemon.ask("GET", "/v1/models/x%0d%0aSet-Cookie:%20a=b%1b[2J")
    assert answer.status == 404
    assert "set-cookie" not in answer.headers
    assert "\x1b" not in caplog.text
    assert "Set-Cookie" not in caplog.text


def test_prompts_are_not_logged(daemon: Served, caplog: Any) -> None:
    """T32: neither asked, failed nor refused ones, nor do they show in the metrics."""
    caplog.set_level("DEBUG")
    for words in ("echo CANARY", "fail CANARY", "bug CANARY"):
        daemon.chat(words)
    daemon.ask("POST", CHAT, b'{"messages":"CANARY"}', content_type="application/json")
    assert "CANARY" not in caplog.text
    assert "CANARY" not in daemon.ask("GET", "/metrics").body.decode()


def test_files_are_refused_unless_configured(daemon: Served, tmp_path: Path) -> None:
    for model in ("./x.gguf", "/etc/passwd", "~/x.gguf", "C:\\x.gguf", "x.gguf", "file:///etc/passwd"):
        for path, body in (
            (CHAT, chat_body("echo hi", model=model)),
            ("/v1/completions", {"model": model, "prompt": "x"}),
            ("/api/localllm/tokenize", {"model": model, "text": "x"}),
            ("/api/localllm/detokenize", {"model": model, "tokens": [1]}),
        ):
            assert daemon.ask("POST", path, body).status in (400, 404), (path, model)
    assert not {name for name in daemon.backend.loaded if "gguf" in name or "/" in name}
    mine = str(tmp_path / "mine.gguf")
    options = ServeOptions(host="127.0.0.1", port=0, default_model="tiny", preload=(mine,))
    with serving(options=options) as served:
        # FakeBackend has no such model; that it was asked for it is what counts.
        assert "no model" in served.chat("echo hi", model=mine).json["error"]["message"]
        assert served.backend.begun.is_set()


def test_errors_of_the_backend_and_bugs(daemon: Served) -> None:
    crashed = daemon.chat("fail")
    assert crashed.status == 503
    assert crashed.json["error"] == {
        "message": "the engine died",
        "type": "server_error",
        "param": None,
        "code": "engine_crashed",
        "hint": "ask again",
    }
    assert crashed.headers["retry-after"] == "2"
    bug = daemon.chat("bug")
    assert bug.status == 500
    assert "a bug in the program" not in bug.body.decode()
    assert daemon.chat("echo hi", model="absent").status == 404
    assert daemon.is_alive()


def test_health_props_queue(daemon: Served) -> None:
    assert daemon.ask("GET", "/health").json == {"status": "ok"}
    assert daemon.ask("HEAD", "/health").body == b""
    props = daemon.ask("GET", "/api/localllm/props").json
    assert props["default_model"] == "smollm2:135m"
    assert props["limits"]["body_bytes"] == 32 << 20
    queue = daemon.ask("GET", "/api/localllm/queue").json
    assert queue["num_active"] == 0
    assert queue["num_places"] == 128


def test_tokenize_and_back(daemon: Served) -> None:
    tokens = daemon.ask("POST", "/api/localllm/tokenize", {"text": "abc"}).json["tokens"]
    assert tokens == [97, 98, 99]
    assert daemon.ask("POST", "/api/localllm/detokenize", {"tokens": tokens}).json["text"] == "abc"
    assert daemon.ask("POST", "/api/localllm/detokenize", {"tokens": [-1]}).json["error"]["param"] == "tokens[0]"


def test_metrics_are_prometheus_text(daemon: Served) -> None:
    daemon.chat("echo hi")
    answer = daemon.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.body.decode().splitlines()
    assert 'localllm_http_responses_total{route="/v1/chat/completions",status="200"}' in answer.body.decode()
    values = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
    assert values["localllm_output_tokens_total"] >= 1
    assert values["localllm_requests_active"] == 0
    assert values['localllm_generation_seconds_bucket{le="+Inf"}'] == values["localllm_generation_seconds_count"]


@pytest.mark.parametrize(
    "options",
    [
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"host": "192.168.1.5"},
        {"host": "box.lan"},
        {"host": "127.0.0.1", "origins": ("*",)},
    ],
)
def test_what_lets_strangers_in_needs_keys(options: dict[str, Any]) -> None:
    """T04."""
    with pytest.raises(ConfigError):
        ServeOptions(port=0, default_model="tiny", **options).check()
    ServeOptions(port=0, default_model="tiny", insecure=True, **options).check()
    ServeOptions(port=0, default_model="tiny", key_file=Path("keys"), **options).check()
