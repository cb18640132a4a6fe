"""T31, T32: what one asks, is answered and shows as a key is nobody else's to read, whatever fails.

Two programs log everything at DEBUG: one over the script, asked all kinds of nonsense in every dialect; one over a real
model, whose child is killed in the middle of an answer.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.daemon.app import DIALECTS
from tests.daemon.measuring import connected
from tests.daemon.program import Program, program
from tests.daemon.serving import CHAT, raw_chat

PROMPT, OUTPUT, KEY, OTHER_KEY = "canary-prompt-5d1", "canary-output-7e2", "canary-key-9f3-long", "another-key-0a4-long"
CANARIES = (PROMPT, OUTPUT, KEY)
_LOG = "import logging, sys; logging.basicConfig(level=logging.DEBUG, filename=sys.argv.pop(1)); "
SCRIPTED = f"{_LOG} from tests.cli.fake_backend import *; sys.exit(main(backend_factory=make_backend))"
REAL = f"{_LOG} from localllm.cli import main; sys.exit(main())"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOCALLLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    keys = tmp_path / "keys"
    keys.write_text(f"a = {KEY}\nb = {OTHER_KEY}\n")
    keys.chmod(0o600)
    return tmp_path


def ask(daemon: Program, method: str, path: str, body: Any = None, key: str = KEY) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    try:
        connection.request(method, path, data, {"content-type": "application/json", "authorization": f"Bearer {key}"})
        got = connection.getresponse()
        return got.status, got.read()
    finally:
        connection.close()


def begin(daemon: Program, words: str, **fields: Any) -> socket.socket:
    """A stream of its first words."""
    sock = connected(daemon)
    key = f"Authorization: Bearer {KEY}\r\nHost:".encode()
    sock.sendall(raw_chat(words, stream=True, **fields).replace(b"Host:", key))
    data = b""
    while b'"content"' not in data:
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    return sock


def traces(daemon: Program, home: Path, *, pids: tuple[int, ...] = ()) -> str:
    """All that others can get to see of what was asked; ends the daemon."""
    found = []
    for path in ("/metrics", "/api/localllm/queue", "/api/localllm/props", "/api/localllm/loaded", "/v1/models"):
        found.append(ask(daemon, "GET", path, key=OTHER_KEY)[1].decode())
    for pid in (daemon.process.pid, *pids):
        for name in ("cmdline", "environ"):
            file = Path(f"/proc/{pid}/{name}")
            found.append(file.read_bytes().decode("utf-8", "replace") if file.exists() else "")
    daemon.process.terminate()
    daemon.end()
    found += daemon.said
    logs = [path.read_text(errors="replace") for path in home.rglob("*.log*")]
    assert len(logs) >= 2
    assert any("DEBUG" in log for log in logs)
    return "\n".join([*found, *logs])


def logging_all(home: Path, script: str) -> tuple[str, ...]:
    return sys.executable, "-c", script, str(home / "all.log")


def everything(model: str) -> Iterator[tuple[str, Any]]:
    """Requests in every dialect: good ones, those that fail in the backend, and those that are refused."""
    for words in ("echo", "fail", "bug", "interrupted", "call"):
        said = f"{words} {PROMPT}"
        messages = [{"role": "user", "content": said}]
        for stream in (False, True):
            body = {"model": model, "messages": messages, "max_tokens": 9, "stream": stream}
            for path in (CHAT, "/v1/messages", "/api/chat", "/api/localllm/chat"):
                yield path, body
            yield "/v1/completions", {"model": model, "prompt": said, "max_tokens": 9, "stream": stream}
            yield "/v1/responses", {"model": model, "input": said, "stream": stream, "store": False}
            yield "/api/generate", {"model": model, "prompt": said, "stream": stream}
    nonsense: tuple[Any, ...] = (
        f'{{"messages": "{PROMPT}'.encode(),
        {"messages": PROMPT},
        {"messages": [{"role": PROMPT, "content": PROMPT}]},
        {"messages": [{"role": "user", "content": PROMPT}], "temperature": PROMPT},
        {"messages": [{"role": "user", "content": PROMPT}], "stop": [PROMPT] * 99},
        {"messages": [{"role": "user", "content": PROMPT}], "model": "absent"},
        {"messages": [{"role": "user", "content": PROMPT}], "response_format": {"type": PROMPT}},
        {"input": {"x": PROMPT}, "prompt": {"x": PROMPT}, "query": [PROMPT], "documents": PROMPT, "text": [PROMPT]},
    )
    for dialect in DIALECTS:
        for endpoint in dialect.endpoints:
            if endpoint.method == "POST" and "{" not in endpoint.path and endpoint.body is not None:
                for body in nonsense:
                    yield endpoint.path, body


@pytest.mark.skipif(os.name != "posix", reason="ended by a signal")
def test_nothing_asked_leaves_a_trace_whatever_fails(home: Path) -> None:
    """T32, and of T31 what a listing or a metric could show."""
    with program("--key-file", str(home / "keys"), "--drain", "0.2", command=logging_all(home, SCRIPTED)) as daemon:
        statuses = set()
        for path, body in everything("smollm2:135m"):
            if path != "/api/localllm/reload":
                statuses.add(ask(daemon, "POST", path, body)[0])
        assert {200, 400, 404, 500, 503} <= statuses
        ask(daemon, "GET", "/v1/models", key=f"{KEY}-and-more")
        ask(daemon, "GET", f"/v1/models?key={KEY}")
        ask(daemon, "GET", f"/{PROMPT}")
        begin(daemon, f"hang {PROMPT}").close()
        with begin(daemon, f"hang {PROMPT}"):
            found = traces(daemon, home)
    assert not [canary for canary in CANARIES if canary in found]


@pytest.mark.weights
@pytest.mark.skipif(os.name != "posix", reason="kill")
def test_nothing_asked_of_a_model_leaves_a_trace_even_when_its_engine_dies(home: Path, smollm2_path: Path) -> None:
    """T32 through the engine: its log is the daemon's, its death is told with its last lines."""
    model = home / "smol.gguf"
    model.symlink_to(smollm2_path)
    name = str(model)
    args = ("--key-file", str(home / "keys"), "--preload", name, "--ctx", "512", "--slots", "1")
    with program(*args, command=logging_all(home, REAL)) as daemon:
        said = [{"role": "user", "content": PROMPT}]
        chat = {"model": name, "messages": said, "max_tokens": 24}
        assert OUTPUT.encode() in ask(daemon, "POST", CHAT, chat | {"guided_choice": [OUTPUT]})[1]
        assert ask(daemon, "POST", CHAT, chat | {"messages": [{"role": "user", "content": PROMPT * 500}]})[0] == 400
        assert ask(daemon, "POST", CHAT, chat | {"grammar": f'root ::= "{PROMPT}'})[0] == 400
        assert ask(daemon, "POST", CHAT, chat | {"guided_regex": f"(?={PROMPT})"})[0] == 400
        body = {"model": name, "prompt": PROMPT, "echo": True, "logprobs": 2, "max_tokens": 2, "stop": PROMPT}
        assert ask(daemon, "POST", "/v1/completions", body)[0] == 200
        (loaded,) = json.loads(ask(daemon, "GET", "/api/localllm/props")[1])["loaded"]
        with begin(daemon, PROMPT, model=name, max_tokens=400, ignore_eos=True) as sock:
            os.kill(loaded["pid"], signal.SIGSEGV)
            began = time.monotonic()
            rest = b""
            while b'"error"' not in rest and time.monotonic() - began < 5:
                rest += sock.recv(65536)
        assert b"engine_crashed" in rest
        assert ask(daemon, "POST", CHAT, chat)[0] == 200
        (again,) = json.loads(ask(daemon, "GET", "/api/localllm/props")[1])["loaded"]
        found = traces(daemon, home, pids=(again["pid"],))
    assert not [canary for canary in CANARIES if canary in found]
