"""The edge of the daemon: slow, large, broken and hostile requests against the real server on a loopback port."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.daemon.serving import CHAT, Served, chat_body, raw_chat, read_all, serving

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Served]:
    with serving(body_bytes=1 << 20) as served:
        yield served


@pytest.fixture(scope="module")
def hasty() -> Iterator[Served]:
    with serving(header_s=0.4, body_idle_s=0.4, body_s=0.8, keep_alive_s=0.4, linger_s=0.3) as served:
        yield served


def status_of(raw: bytes) -> int:
    assert raw.startswith(b"HTTP/1.1 "), raw[:100]
    assert raw.count(b"HTTP/1.1 ") == 1, "more than one answer"
    return int(raw[9:12])


def send(served: Served, data: bytes) -> bytes:
    with served.connect() as sock:
        sock.sendall(data)
        return read_all(sock)


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 65536 + b"\r\n\r\n", {431}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 5000 + b"\r\n", {431}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 101 + b"\r\n", {431}),
        (b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", {414}),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", {414}),
        (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", {400}),
        (HEAD + b"Content-Length: -1\r\n\r\n{}", {400}),
        (HEAD.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n{}", {400}),
        (HEAD + b"X: y\nContent-Length: 2\r\n\r\n{}", {400}),
        (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", {400}),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"x" * (1 << 20) + b"\r\n{}\r\n0\r\n\r\n", {400, 431}),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", {400}),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
        (b"GET / HTTP/1.1\r\n\r\n", {400}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", {400}),
        (b"\x16\x03\x01\x02\x00\x01\x00", {400}),
        (b"\r\n\r\n\r\n\x00\r\n\r\n", {400}),
    ],
    ids=lambda value: repr(value[-24:]) if isinstance(value, bytes) else None,
)
def test_what_is_no_sound_request_is_answered_once_and_closed(daemon: Served, data: bytes, statuses: set[int]) -> None:
    """T10, T11."""
    assert status_of(send(daemon, data)) in statuses
    assert daemon.is_alive()


def test_a_second_request_behind_the_first_is_not_read(daemon: Served) -> None:
    assert status_of(send(daemon, raw_chat("echo one") + raw_chat("echo two"))) == 200


def test_a_body_in_pieces_of_one_byte(daemon: Served) -> None:
    raw = raw_chat("echo\nlines\nhere").replace(b"Host: localhost", b"Connection: close\r\nHost: localhost")
    with daemon.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(raw)):
            sock.sendall(raw[at : at + 1])
        assert status_of(read_all(sock)) == 200


def test_a_body_too_large(daemon: Served) -> None:
    """T12: refused by its length before a byte of it, and while reading without one."""
    large = b" " * (2 << 20)
    announced = HEAD + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(large)
    assert status_of(send(daemon, announced)) == 413
    assert daemon.ask("POST", CHAT, large, content_type="application/json").status == 413
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(large) + large + b"\r\n0\r\n\r\n"
    assert status_of(send(daemon, chunked)) == 413
    assert daemon.is_alive()


def test_compressed_and_other_bodies(daemon: Served) -> None:
    body = json.dumps(chat_body("echo hi")).encode()
    packed = gzip.compress(b" " * (10 << 20))
    assert daemon.ask("POST", CHAT, packed, content_type="application/json", content_encoding="gzip").status == 415
    assert daemon.ask("POST", CHAT, body, content_type="text/plain").status == 415
    assert daemon.ask("POST", CHAT, body, content_type="application/x-www-form-urlencoded").status == 415
    assert daemon.ask("POST", CHAT, body, content_type="application/json; charset=utf-8").status == 200
    assert daemon.ask("POST", CHAT, body).status == 200
    assert daemon.ask("POST", CHAT, body, origin="http://localhost:3000").status == 415


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"messages":[],"messages":[],"model":"tiny"}',
        b'{"messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
        b'{"messages":[{"role":"user","content":"x"}],"temperature":1e999}',
        b'{"messages":[{"role":"user","content":"x"}],"temperature":NaN}',
        b'{"messages":[{"role":"user","content":"x"}],"seed":' + b"9" * 100_000 + b"}",
        b'{"messages":[{"role":"user","content":"x"}],"n":1000000}',
        b'{"messages":[{"role":"user","content":"x"}],"top_k":-9223372036854775808}',
        b'{"messages":[{"role":"user","content":"x"}],"presence_penalty":1e30}',
        b'{"messages":[{"role":"user","content":"x"}],"logit_bias":{"1000000000000":1}}',
        b'{"messages":[{"role":"user","content":"x"}],"stop":[""]}',
        b'{"messages":[{"role":"user","content":"x"}],"stop":[' + b'"a",' * 9999 + b'"a"]}',
        b'{"messages":[' + b'{"role":"user","content":"x"},' * 9999 + b'{"role":"user","content":"x"}]}',
    ],
    ids=lambda body: repr(body[-30:]),
)
def test_bodies_that_ask_for_nonsense(daemon: Served, body: bytes) -> None:
    """T13, T26, T27: 400 within 200 ms, in words; the daemon lives."""
    began = time.monotonic()
    answer = daemon.ask("POST", CHAT, body, content_type="application/json")
    assert time.monotonic() - began < 0.5
    assert answer.status == 400
    assert answer.json["error"]["message"]
    assert daemon.is_alive()


def test_a_million_keys(daemon: Served) -> None:
    body = b'{"messages":[{"role":"user","content":"echo x"}],' + b",".join(b'"%x":1' % n for n in range(70_000)) + b"}"
    assert daemon.ask("POST", CHAT, body, content_type="application/json").status == 200


def closes_within(sock: socket.socket, seconds: float) -> bytes:
    sock.settimeout(seconds)
    return read_all(sock)


def trickle(sock: socket.socket, byte: bytes, pause_s: float) -> float:
    """Send a byte at a time until the other side has closed; returns after how many seconds that was."""
    began = time.monotonic()
    try:
        while time.monotonic() - began < 5:
            sock.sendall(byte)
            time.sleep(pause_s)
    except OSError:
        pass
    return time.monotonic() - began


def ask_health(sock: socket.socket) -> None:
    sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    data = b""
    while not data.endswith(b"}"):
        data += sock.recv(4096)
    assert status_of(data) == 200


def test_a_head_that_never_ends(hasty: Served) -> None:
    with hasty.connect() as silent, hasty.connect() as slow:
        slow.sendall(b"POST / HTTP/1.1\r\nHost")
        assert status_of(closes_within(slow, 1.4)) == 408
        assert closes_within(silent, 1.4) == b""


def test_a_head_a_byte_at_a_time_has_one_deadline(hasty: Served) -> None:
    with hasty.connect() as sock:
        assert trickle(sock, b"G", 0.05) < 1.7


def test_a_body_that_stops(hasty: Served) -> None:
    with hasty.connect() as sock:
        sock.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert status_of(closes_within(sock, 1.4)) == 408
    assert not hasty.backend.begun.is_set()


def test_a_body_that_trickles(hasty: Served) -> None:
    with hasty.connect() as sock:
        sock.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        assert 0.7 < trickle(sock, b" ", 0.1) < 2.2


def test_an_idle_connection_is_closed_and_a_used_one_is_kept(hasty: Served) -> None:
    with hasty.connect() as sock:
        for _ in range(2):
            ask_health(sock)
        # The rest of a second request's head is late too.
        sock.sendall(b"GET /health")
        assert status_of(closes_within(sock, 1.4)) == 408
    with hasty.connect() as sock:
        ask_health(sock)
        assert closes_within(sock, 1.4) == b""


def test_slowloris(hasty: Served) -> None:
    """F05, short form: 200 slow clients in four fashions, while a good one is served as ever."""
    starts = (b"", b"G", b"GET / HTTP/1.1\r\nX: ", HEAD + b"Content-Length: 9\r\n\r\n{")
    slow = [hasty.connect() for _ in range(200)]
    began = time.monotonic()
    try:
        for number, sock in enumerate(slow):
            sock.sendall(starts[number % 4]) if starts[number % 4] else None
        for _ in range(20):
            assert hasty.chat("echo hi").status == 200
        for sock in slow:
            closes_within(sock, 3.0)
        assert time.monotonic() - began < 0.4 + 0.3 + 2.0
    finally:
        for sock in slow:
            sock.close()
    assert hasty.is_alive()


def test_at_the_limit_of_connections_a_silent_one_makes_room() -> None:
    with serving(num_connections=8) as served:
        silent = [served.connect() for _ in range(8)]
        for _ in range(4):
            assert served.chat("echo hi").status == 200
        for sock in silent:
            sock.close()


def test_all_places_taken_is_a_503_at_once() -> None:
    with serving(num_requests=2) as served:
        held = [served.begin("hang", stream=True) for _ in range(2)]
        for sock in held:
            assert b"200 OK" in sock.recv(4096)
        began = time.monotonic()
        answer = served.chat("echo hi")
        assert time.monotonic() - began < 0.5
        assert answer.status == 503
        assert answer.json["error"]["code"] == "queue_full"
        assert int(answer.headers["retry-after"]) >= 1
        held[0].close()
        assert served.backend.closed.wait(2)
        assert served.chat("echo hi").status == 200
        held[1].close()


def test_bodies_share_one_bound() -> None:
    with serving(body_bytes=300_000, all_bodies_bytes=500_000) as served:
        part = HEAD + b"Content-Length: 300000\r\n\r\n" + b" " * 290_000
        with served.connect() as first, served.connect() as second:
            first.sendall(part)
            second.sendall(part)
            statuses = []

            def read(sock: socket.socket) -> None:
                sock.settimeout(1.0)
                try:
                    statuses.append(sock.recv(4096)[9:12])
                except TimeoutError:
                    statuses.append(b"")

            threads = [threading.Thread(target=read, args=(sock,)) for sock in (first, second)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(statuses) == [b"", b"503"]
        assert served.is_alive()
