"""What threatens a daemon on somebody's machine, and which test shows that it holds. The rows not named here are below.

| what | test |
|---|---|
| T01 foreign Host, T02 foreign Origin | test_app, every route; test_guard, every spelling |
| T03 preflights of strangers | test_app, test_guard |
| T04 public bind without keys | test_serve (the program), test_app (the options) |
| T05 every route wants the key | test_app, also odd spellings and methods |
| T06 timing of wrong keys | here |
| T07 odd keys | test_guard |
| T08 keys for asking only | here, every route that manages; test_native |
| T09 guessing keys | test_guard |
| T10 heads, T11 smuggling, T12 bodies | test_http; memory here |
| T13 JSON, T26 parameters, T27 counts | test_http; other dialects here and in test_openapi_fuzz |
| T14 control characters in names | test_app |
| T15 T16 control tokens in text | tests/text/test_injection |
| T17 templates in requests | here; tests/text/test_limits |
| T18 T19 templates that attack | tests/text/test_limits |
| T20 T21 grammars and schemas that attack | tests/engine/test_grammar; test_real |
| T22 ends of grammars | tests/engine/test_grammar_engine |
| T23 text that is slow to tokenize | tests/text/test_pieces |
| T24 answers that are slow to parse | tests/text/tools/test_calls, tests/text/parsers/test_formats |
| T25 over-long prompts | test_real |
| T31 another key's requests | test_native, test_responses, test_batches |
| T32 prompts in logs | test_app, tests/cli/test_daemon_commands |
| T59 websockets | here: there are none |
| F01 hanging up | test_sse, test_real; while loading: here |
| F02 half-open peers | here: what the system is told |
| F03 slow readers | test_sse |
| F04 idle streams | here |
| F05 slow clients | test_http; the long form here |
| F07 reloading | tests/cli/test_daemon_commands |
| F08 signals | test_serve, test_real |
| F10 a killed daemon | here |
| F15 more models than room | tests/test_pool, tests/test_pool_real |
| F20 few files, taken ports | test_serve |
| F21 leaks | here; the engine's: tests/engine/test_soak |
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import os
import signal
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.api import ChatRequest, Event, LoadOptions
from localllm.config import Settings
from localllm.daemon.app import DIALECTS
from localllm.daemon.keys import KeyRing
from localllm.daemon.run import ServeOptions
from tests.daemon.program import REAL, Program, program
from tests.daemon.serving import CHAT, ScriptedBackend, Served, chat_body, raw_chat, read_all, serving

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
KEY = "a-key-of-some-length"


def anon_bytes(daemon: Program) -> int:
    """Memory of its own that a daemon holds."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    names = ("RssAnon", "VmSwap")
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(names))


def num_files(daemon: Program) -> int:
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def ask(daemon: Program, raw: bytes) -> bytes:
    """The whole answer to a request that closes its connection."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as sock:
        with contextlib.suppress(OSError):  # refused while it was still sent
            sock.sendall(raw)
        return read_all(sock)


def closing(raw: bytes) -> bytes:
    return raw.replace(b"Host: localhost", b"Connection: close\r\nHost: localhost")


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.02)


# --- keys -------------------------------------------------------------------------------------------------------------


def test_how_much_of_a_key_is_right_does_not_show_in_time() -> None:
    """T06: no trend over 20,000 wrong keys, by how long a prefix of them is right."""
    ring = KeyRing({f"k{n}": hashlib.sha256(f"{KEY}-{n}".encode()).digest() for n in range(4)})
    whole = f"{KEY}-3".encode()
    prefixes = [whole[:n] + b"?" * (len(whole) - n) for n in range(len(whole))]
    times: list[list[int]] = [[] for _ in prefixes]
    for _ in range(20_000 // len(prefixes)):
        for number, wrong in enumerate(prefixes):
            began = time.perf_counter_ns()
            assert ring.name_of(wrong) is None
            times[number].append(time.perf_counter_ns() - began)
    medians = [statistics.median(part) for part in times]
    # What comparing a key byte by byte would take shows as a slope; hashing it whole takes the same for each.
    slope, level = statistics.linear_regression(range(len(medians)), medians)
    assert abs(slope) * len(medians) < 0.1 * level, medians


def test_a_key_for_asking_manages_nothing(tmp_path: Path) -> None:
    """T08, for every route that changes what others get."""
    file = tmp_path / "keys"
    hashes = [hashlib.sha256(key).hexdigest() for key in (b"the-one-that-asks", b"the-one-that-manages")]
    file.write_text(f"asks = sha256:{hashes[0]} infer\nmanages = sha256:{hashes[1]}\n")
    options = ServeOptions(host="127.0.0.1", port=0, default_model="tiny", key_file=file)
    managing = [endpoint for dialect in DIALECTS for endpoint in dialect.endpoints if endpoint.manages]
    assert len(managing) >= 9
    with serving(options=options) as served:
        for endpoint in managing:
            path = endpoint.path.replace("{digest}", f"sha256:{'0' * 64}")
            answer = served.ask(endpoint.method, path, {"model": "tiny"}, authorization="Bearer the-one-that-asks")
            assert answer.status == 403, path
        assert not served.backend.loaded
        assert served.ask("GET", "/v1/models", authorization="Bearer the-one-that-asks").status == 200


# --- requests ---------------------------------------------------------------------------------------------------------


@linux
def test_what_is_too_large_takes_no_memory() -> None:
    """T10, T12: under 48 MiB for 33 MiB of body, with a length or without; under 1 MiB for huge heads."""
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()
    heads = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 65536 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
        b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    size = 33 << 20
    bomb = gzip.compress(b" " * (64 << 20))
    with program() as daemon:
        before = 0
        # Once for what the first of a kind brings into memory, and then for what stays of each.
        for num_times in (1, 10):
            before = anon_bytes(daemon)
            for raw in heads * num_times:
                assert ask(daemon, raw)[9:12] in (b"414", b"431")
        assert anon_bytes(daemon) - before < 1 << 20
        assert b" 413 " in ask(daemon, head + b"Content-Length: %d\r\n\r\n" % size + b" " * size)[:20]
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size + b" " * size
        assert b" 413 " in ask(daemon, chunked + b"\r\n0\r\n\r\n")[:20]
        packed = head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb
        assert b" 415 " in ask(daemon, closing(packed))[:20]
        assert anon_bytes(daemon) - before < 48 << 20


MESSAGES = [{"role": "user", "content": "echo hi"}]
NONSENSE: list[dict[str, Any]] = [
    {"temperature": -1e30},
    {"top_p": 7},
    {"top_k": 2**63},
    {"seed": 2**64},
    {"n": 10**6},
    {"best_of": 10**6},
    {"stop": ["a"] * 10_000},
    {"stop": [""]},
    {"stop_sequences": ["a"] * 10_000},
    {"logprobs": 10**6},
    {"top_logprobs": 10**6},
    {"max_tokens": -(10**9)},
    {"messages": MESSAGES * 200_000},
    {"tools": [{"type": "function", "name": "f", "function": {"name": "f"}}] * 10_000},
    {"options": {"temperature": "hot"}},
    {"chat_template": "{{ 1 }}"},
    {"template_args": {"chat_template": "{{ 1 }}"}},
    {"chat_template_kwargs": {"chat_template": "{{ 1 }}"}},
]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/api/chat", "/api/localllm/chat", "/v1/responses"])
def test_nonsense_is_never_a_failure_and_never_the_daemons(daemon: Served, path: str) -> None:
    """T17, T26, T27 in every dialect: a refusal in its shape, or a field it does not know, within half a second."""
    base: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_tokens": 5, "input": "echo hi"}
    num_refused = 0
    for fields in NONSENSE:
        body = json.dumps({**base, **fields}).encode()
        began = time.monotonic()
        answer = daemon.ask("POST", path, body, content_type="application/json")
        assert time.monotonic() - began < 1.0, list(fields)
        assert answer.status in (200, 400), (fields, answer.body[:200])
        num_refused += answer.status == 400
    assert num_refused >= 4
    assert daemon.is_alive()


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 404), ({"origin": "http://evil.com"}, 403), ({"host": "evil.example"}, 403)],
    ids=["plain", "evil origin", "evil host"],
)
def test_there_are_no_websockets(daemon: Served, headers: dict[str, str], status: int) -> None:
    """T59: an upgrade is an ordinary request; what comes behind it as frames is never read."""
    named = {"Host": "localhost"} | {name.title(): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    with daemon.connect() as sock:
        sock.sendall(f"GET /ws HTTP/1.1\r\n{lines}{upgrade}\r\n".encode())
        frame = b"\x82\xff" + (17 << 20).to_bytes(8, "big") + b"mask"
        with contextlib.suppress(OSError):
            sock.sendall(frame + b"\0" * (1 << 20))
            sock.sendall(b"\x89\x80mask" * 10_000)
        answer = read_all(sock)
    assert f" {status} ".encode() in answer[:20]
    assert b"101 " not in answer
    assert daemon.is_alive()


# --- clients that go, stall and crowd ---------------------------------------------------------------------------------


def test_a_client_that_leaves_during_a_load_is_forgotten() -> None:
    """F01: whoever waits for a model and goes costs nothing more."""

    class Loading(ScriptedBackend):
        async def chat(self, request: ChatRequest) -> AsyncIterator[Event]:  # noqa: ARG002
            self.begun.set()
            try:
                await asyncio.Event().wait()
                yield  # type: ignore[misc]
            finally:
                self.closed.set()

    with serving(Loading(Settings(), LoadOptions())) as served:
        sock = served.begin("echo hi", stream=True)
        assert served.backend.begun.wait(5)
        began = time.monotonic()
        sock.close()
        assert served.backend.closed.wait(5)
        assert time.monotonic() - began < 0.25
        assert served.ask("GET", "/api/localllm/queue").json["num_active"] == 0


def test_the_head_of_a_stream_is_all_that_is_sent(daemon: Served) -> None:
    """HEAD comes with every GET: nobody waits for a body that must not come."""
    answer = daemon.ask("HEAD", "/api/localllm/status")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream"
    assert not daemon.failures


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="TCP_USER_TIMEOUT is Linux's")
def test_the_system_gives_up_on_peers_that_vanish(daemon: Served) -> None:
    """F02: what is not acknowledged for 30 s ends a connection, and a quiet one is probed."""
    with daemon.begin("hang", stream=True) as sock:
        sock.recv(4096)
        connections = [found.transport.get_extra_info("socket") for found in daemon.server._state.connections]
        assert connections
        for one in connections:
            assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


@linux
@pytest.mark.parametrize("num_idle", [200, pytest.param(1000, marks=pytest.mark.long)])
def test_idle_streams_cost_little(num_idle: int) -> None:
    """F04: 64 KiB each at most; a user among them waits no longer; their files come back."""
    with program() as daemon:
        alone_s = first_word_s(daemon)
        files, before = num_files(daemon), anon_bytes(daemon)
        idle = []
        try:
            for _ in range(num_idle):
                sock = socket.create_connection(("127.0.0.1", daemon.port), timeout=20)
                idle.append(sock)
                sock.sendall(b"GET /api/localllm/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b"200 OK" in sock.recv(4096)
            assert (anon_bytes(daemon) - before) / num_idle <= 64 * 1024
            # The figures of a shared machine vary; what is shown is that no client pays for the crowd.
            assert first_word_s(daemon) <= alone_s * 1.1 + 0.1
        finally:
            for sock in idle:
                sock.close()
        wait_until(lambda: num_files(daemon) <= files + 5, 5.0, "files stay open")


def first_word_s(daemon: Program) -> float:
    """The median of several."""
    times = []
    for _ in range(9):
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as sock:
            began = time.monotonic()
            sock.sendall(raw_chat("echo hi", stream=True))
            sock.recv(4096)
            times.append(time.monotonic() - began)
    return statistics.median(times)


@pytest.mark.long
def test_five_hundred_slow_clients_at_the_limits_that_are_served() -> None:
    """F05, at the deadlines users have: all are closed a second after theirs, and a good client never fails."""
    starts = (b"", b"G", b"GET / HTTP/1.1\r\nX: ")
    with serving() as served:
        slow = [served.connect() for _ in range(500)]
        began = time.monotonic()
        for number, sock in enumerate(slow):
            if start := starts[number % 3]:
                sock.sendall(start)
        while time.monotonic() - began < 9.0:
            assert served.chat("echo hi").status == 200
        for sock in slow:
            sock.settimeout(max(10.0 + 2.0 + 1.0 + began - time.monotonic(), 0.1))
            read_all(sock)
            sock.close()
        assert served.is_alive()


@linux
@pytest.mark.parametrize("num_requests", [800, pytest.param(10_000, marks=pytest.mark.long)])
def test_nothing_is_left_of_requests(num_requests: int) -> None:
    """F21: mixed requests, a tenth of them broken off; memory, files and the queue are as before."""
    body = json.dumps(chat_body("echo hi")).encode()
    with program() as daemon:
        files = num_files(daemon)
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=20):
            pass
        settled = 0
        for number in range(num_requests):
            if number == min(200, num_requests // 4):
                settled = anon_bytes(daemon)
            match number % 10:
                case 0:
                    sock = socket.create_connection(("127.0.0.1", daemon.port), timeout=20)
                    sock.sendall(raw_chat("hang", stream=True))
                    sock.recv(4096)
                    sock.close()
                case 1 | 2:
                    assert b"[DONE]" in ask(daemon, closing(raw_chat("long 200", stream=True)))
                case 3:
                    assert b" 400 " in ask(daemon, closing(raw_chat("echo", n=99)))[:20]
                case _:
                    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                    raw = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
                    assert b" 200 " in ask(daemon, raw)[:20]
        wait_until(lambda: num_files(daemon) <= files + 5, 5.0, "files stay open")
        grown = anon_bytes(daemon) - settled
        assert grown <= 32 << 20
        if num_requests >= 10_000:
            assert grown / num_requests <= 1024
        assert json.loads(daemon.get("/api/localllm/queue").read())["num_active"] == 0


@pytest.mark.weights
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_a_killed_daemon_takes_its_engine_with_it(
    smollm2_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F10: the child is gone within 2 s, its client sees the end at once, and the port is free for the next."""
    monkeypatch.setenv("LOCALLLM_HOME", str(tmp_path))
    model = tmp_path / "smol.gguf"
    model.symlink_to(smollm2_path)
    with program("--preload", str(model), "--ctx", "512", "--slots", "1", command=REAL) as daemon:
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=60) as sock:
            sock.sendall(raw_chat("Count to a hundred.", model=str(model), stream=True, max_tokens=400))
            assert b"200 OK" in sock.recv(4096)
            (loaded,) = json.loads(daemon.get("/api/localllm/props").read())["loaded"]
            began = time.monotonic()
            os.kill(daemon.process.pid, signal.SIGKILL)
            read_all(sock)
            assert time.monotonic() - began < 1.0
        wait_until(lambda: not Path(f"/proc/{loaded['pid']}").exists(), 2.0, "the engine child outlived the daemon")
        with program("--port", str(daemon.port)) as following:
            assert following.get("/health").status == 200
