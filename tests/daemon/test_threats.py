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
| T13 JSON, T26 parameters, T27 counts | test_http; huge ones and other dialects here; test_openapi_fuzz |
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
| T32 prompts in logs | test_canaries, every dialect and a killed engine; test_app, tests/cli/test_daemon_commands |
| T59 websockets | here: there are none |

Faults, the rows F: test_faults.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import select
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.daemon.app import DIALECTS
from localllm.daemon.keys import KeyRing
from localllm.daemon.run import ServeOptions
from tests.daemon.measuring import anon_bytes, ask, closing, connected, in_some_round, linux
from tests.daemon.program import Program, program
from tests.daemon.serving import CHAT, Served, raw_chat, read_all, serving

KEY = "a-key-of-some-length"


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


HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()


@linux
def test_huge_heads_take_no_memory() -> None:
    """T10: under 1 MiB."""
    heads = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 65536 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
        b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    with program() as daemon:
        before = 0
        # Once for what the first of a kind brings into memory, and then for what stays of each.
        for num_times in (1, 10):
            before = anon_bytes(daemon)
            for raw in heads * num_times:
                assert ask(daemon, raw)[9:12] in (b"414", b"431")
        assert anon_bytes(daemon) - before < 1 << 20


def poured(daemon: Program, head: bytes, piece: bytes, num_bytes: int) -> tuple[bytes, int, int]:
    """Send a head and then a piece over and over: the answer, the bytes sent by then, and by how much memory grew."""
    before = most = anon_bytes(daemon)
    num_sent = 0
    with connected(daemon) as sock:
        sock.sendall(head)
        sock.setblocking(False)
        while num_sent < num_bytes:
            readable, writable, _ = select.select([sock], [sock], [], 5)
            most = max(most, anon_bytes(daemon))
            if readable:
                break
            assert writable, "it neither reads nor answers"
            num_sent += sock.send(piece[num_sent % len(piece) :])
        sock.setblocking(True)
        return sock.recv(65536), num_sent, most - before


@linux
@pytest.mark.parametrize("kind", ["announced", "in chunks", "packed"])
def test_ten_gigabytes_of_body_take_no_memory(kind: str) -> None:
    """T12: 10 GiB announced are refused at once, as they come at the limit, and a bomb unopened; under 48 MiB each."""
    size = 10 << 30
    mib = b" " * (1 << 20)
    with program() as daemon:
        # What the first request brings into memory is not the body's.
        assert b" 200 " in ask(daemon, closing(raw_chat("echo hi")))[:20]
        for _ in range(2):
            if kind == "announced":
                answer, num_sent, grown = poured(daemon, HEAD + b"Content-Length: %d\r\n\r\n" % size, mib, size)
                assert num_sent < 8 << 20
            elif kind == "in chunks":
                chunk = b"%x\r\n" % len(mib) + mib + b"\r\n"
                answer, num_sent, grown = poured(daemon, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk, size)
                assert 32 << 20 < num_sent < 48 << 20
            else:
                # Members of a gzip file follow each other: 160 times 64 MiB in 10 MB.
                bomb = gzip.compress(bytes(64 << 20), 1)
                bomb *= 10 * (1 << 20) // len(bomb)
                head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
                answer, _num_sent, grown = poured(daemon, head, bomb, len(bomb))
            assert (b" 415 " if kind == "packed" else b" 413 ") in answer[:20]
            assert grown < 48 << 20, f"{grown >> 20} MiB"
        assert daemon.get("/health").status == 200


MESSAGE = b'"messages":[{"role":"user","content":"echo x"}]'


def million_keys() -> bytes:
    return b",".join(b'"k%d":1' % number for number in range(1_000_000))


# JSON that is hard on a parser, made when it is wanted.
HUGE: dict[str, Callable[[], bytes]] = {
    "a million keys": lambda: b"{%b,%b}" % (MESSAGE, million_keys()),
    "a schema of a million keys": lambda: (
        b'{%b,"tools":[{"type":"function","function":%b}]}'
        % (MESSAGE, b'{"name":"f","parameters":{%b}}' % million_keys())
    ),
    "deep": lambda: b'{%b,"x":%b' % (MESSAGE, b"[" * 100_000),
    "deep and whole": lambda: b'{%b,"x":%b%b}' % (MESSAGE, b"[" * 100_000, b"]" * 100_000),
    "ten million lists": lambda: b'{%b,"metadata":[%b[]]}' % (MESSAGE, b"[]," * 10_000_000),
    "a number of 100,000 digits": lambda: b'{%b,"seed":%b}' % (MESSAGE, b"9" * 100_000),
    "a million messages": lambda: b'{"messages":[%b]}' % b",".join([b'{"role":"user","content":"x"}'] * 1_000_000),
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_json_is_judged_within_200_ms(name: str) -> None:
    """T13: a 400, counted from the last byte sent."""
    body = HUGE[name]()
    with program() as daemon:

        def measure() -> str:
            with connected(daemon) as sock:
                sock.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[:-1])
                time.sleep(0.05)
                began = time.monotonic()
                sock.sendall(body[-1:])
                answer = sock.recv(65536)
                seconds = time.monotonic() - began
            assert answer[9:12] == b"400", answer
            return "" if seconds <= 0.2 else f"{seconds:.3f} s"

        in_some_round(measure)
        assert daemon.get("/health").status == 200


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


def test_the_head_of_a_stream_is_all_that_is_sent(daemon: Served) -> None:
    """HEAD comes with every GET: nobody waits for a body that must not come."""
    answer = daemon.ask("HEAD", "/api/localllm/status")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream"
    assert not daemon.failures
