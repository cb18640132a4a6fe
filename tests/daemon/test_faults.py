"""Clients that go, stall and crowd, and ends of the daemon: the rows F01 to F21, with their numbers.

| what | test |
|---|---|
| F01 hanging up | test_sse, test_real; while loading: here |
| F02 peers that vanish | here, in a network that goes down |
| F03 slow readers, F04 idle streams, F05 slow clients | here; with short limits: test_sse, test_http |
| F07 reloading | tests/cli/test_daemon_commands; with a model: test_real |
| F08 signals | test_serve, test_real |
| F09 a killed child, F18 one that hangs | test_real; tests/test_pool_real |
| F10 a killed daemon | here |
| F15 more models than room | tests/test_pool, tests/test_pool_real |
| F16 F17 no memory | test_memory; tests/test_pool; tests/engine |
| F20 few files, few threads, taken ports | test_serve; stale files: tests/cli/test_daemon_commands |
| F21 leaks | here; the engine's: tests/engine/test_soak |
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from localllm.api import ChatRequest, Event, LoadOptions
from localllm.config import Settings
from tests.daemon.measuring import (
    anon_bytes,
    ask,
    chat_times,
    closing,
    connected,
    health_times,
    in_some_round,
    linux,
    num_files,
    percentile,
    wait_until,
)
from tests.daemon.program import REAL, Program, program
from tests.daemon.serving import CHAT, ScriptedBackend, chat_body, raw_chat, read_all, serving, torrent

# --- one that goes ----------------------------------------------------------------------------------------------------


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


# A program in a network of its own.
ALONE = ("unshare", "--user", "--map-root-user", "--net")


def has_networks_of_its_own() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not has_networks_of_its_own(), reason="no right to a network of its own (unshare --net)")
@pytest.mark.parametrize(
    ("vanish_s", "ping_s", "bound_s"),
    [(1.5, 0.5, 6.0), pytest.param(25.0, 15.0, 60.0, marks=pytest.mark.long)],
    ids=["short", "as served"],
)
def test_a_peer_whose_network_is_gone_is_freed(vanish_s: float, ping_s: float, bound_s: float) -> None:
    """F02: no FIN, no RST, not a packet; a minute at most with the limits that users have."""
    command = (*ALONE, sys.executable, "-m", "tests.daemon.vanishing", str(vanish_s), str(ping_s))
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= bound_s


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="TCP_USER_TIMEOUT is Linux's")
def test_the_system_is_told_to_give_up_on_peers_that_vanish() -> None:
    """F02, beside streams: what is not acknowledged for 70 s ends a connection; a quiet one is probed."""
    with serving() as served, served.begin("hang", stream=True) as sock:
        sock.recv(4096)
        connections = [found.transport.get_extra_info("socket") for found in served.server._state.connections]
        assert connections
        for one in connections:
            assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 70_000
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP")
@pytest.mark.parametrize("stall_s", [1.0, pytest.param(60.0, marks=pytest.mark.long)])
def test_a_client_program_that_is_stopped_is_dropped(stall_s: float) -> None:
    """F02, F03: its machine acknowledges what comes, and nobody reads it."""
    reader = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
    reader += "s.sendall(sys.stdin.buffer.read()); print(len(s.recv(100)), flush=True)\nwhile s.recv(4096): pass"
    with serving(torrent(100), stall_s=stall_s) as served:
        command = (sys.executable, "-c", reader, str(served.port))
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(raw_chat("torrent", stream=True))
            client.stdin.close()
            assert client.stdout.readline() == b"100\n"
            os.kill(client.pid, signal.SIGSTOP)
            began = time.monotonic()
            try:
                assert served.backend.closed.wait(stall_s * 1.3 + 5)
                assert time.monotonic() - began >= stall_s * 0.9
            finally:
                client.kill()
        assert served.is_alive()


# --- slow ones --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def reading_slowly(daemon: Program, num: int) -> Iterator[None]:
    """So many clients that read a stream of 1 MB at 1 KB/s, for the block."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connected(daemon)) for _ in range(num)]
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(raw_chat("blocks 1000", stream=True))
            assert sock.recv(100)
        over = threading.Event()

        def read() -> None:
            while not over.wait(0.1):
                for sock in socks:
                    sock.recv(100)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield
        finally:
            over.set()
            reader.join()


def stream_s(daemon: Program) -> float:
    """Seconds that a stream of 10,000 pieces takes, the best of several."""
    times = []
    for _ in range(5):
        with connected(daemon) as sock:
            began = time.monotonic()
            sock.sendall(closing(raw_chat("long 10000", stream=True)))
            assert read_all(sock).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            times.append(time.monotonic() - began)
    return min(times)


@linux
@pytest.mark.parametrize("num", [8, pytest.param(64, marks=pytest.mark.long)])
def test_slow_readers_hold_little_and_cost_others_nothing(num: int) -> None:
    """F03: 256 KiB each at most, and whoever reads gets 95 % of the throughput it has without them."""
    with program() as daemon:
        stream_s(daemon)
        before = anon_bytes(daemon)

        def measure() -> str:
            alone_s = stream_s(daemon)
            with reading_slowly(daemon, num):
                time.sleep(0.5)
                held = (anon_bytes(daemon) - before) / num
                assert held <= 256 * 1024, f"{held / 1024:.0f} KiB each"
                beside_s = stream_s(daemon)
            return "" if alone_s / beside_s >= 0.95 else f"{alone_s:.3f} s alone, {beside_s:.3f} s beside them"

        in_some_round(measure)


@linux
@pytest.mark.parametrize("num_idle", [200, pytest.param(1000, marks=pytest.mark.long)])
def test_idle_streams_cost_little(num_idle: int) -> None:
    """F04: 64 KiB each, first words after 1.1 times as long and 20 ms, `/health` in 20 ms, all files back in 5 s."""
    with program() as daemon:
        alone_s = statistics.median(chat_times(daemon, 21))
        files, before = num_files(daemon), anon_bytes(daemon)
        with contextlib.ExitStack() as stack:
            for _ in range(num_idle):
                sock = stack.enter_context(connected(daemon))
                sock.sendall(b"GET /api/localllm/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b"200 OK" in sock.recv(4096)
            assert (anon_bytes(daemon) - before) / num_idle <= 64 * 1024

            def measure() -> str:
                among_s = statistics.median(chat_times(daemon, 21))
                health_s = percentile(health_times(daemon, 200), 99)
                is_fast = among_s <= alone_s * 1.1 + 0.020 and health_s <= 0.020
                return "" if is_fast else f"{alone_s=:.4f} {among_s=:.4f} {health_s=:.4f}"

            in_some_round(measure)
        wait_until(lambda: num_files(daemon) <= files + 5, 5.0, "files stay open")


# How slow clients begin, what they go on with every 5 s, and by when they are closed at the limits that are served.
_BODY = (
    f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n".encode()
)
SLOW = (
    (b"", b"", 10.0),
    (b"GET / HTTP/1.1\r\nX: ", b"", 10.0),
    (b"G", b"E", 10.0),
    (_BODY + b"{", b"", 30.0),
    (_BODY, b" ", 120.0),
)


@contextlib.contextmanager
def slow_clients(daemon: Program, num: int) -> Iterator[list[socket.socket]]:
    """So many that have begun in all these fashions."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connected(daemon)) for _ in range(num)]
        for number, sock in enumerate(socks):
            sock.sendall(SLOW[number % len(SLOW)][0])
        yield socks


@pytest.mark.parametrize("num", [200, pytest.param(500, marks=pytest.mark.long)])
def test_beside_slow_clients_a_good_one_is_served_as_ever(num: int) -> None:
    """F05: it never fails, and its 99th percentile is at most 1.2 times what it is alone."""
    with program() as daemon:

        def p99() -> float:
            return min(percentile(health_times(daemon, 200), 99) for _ in range(5))

        p99()

        def measure() -> str:
            alone_s = p99()
            with slow_clients(daemon, num):
                beside_s = p99()
            return (
                "" if beside_s <= alone_s * 1.2 else f"p99 {alone_s * 1e3:.2f} ms alone, {beside_s * 1e3:.2f} ms beside"
            )

        in_some_round(measure)


@pytest.mark.long
def test_five_hundred_slow_clients_are_closed_at_their_deadlines() -> None:
    """F05, at the limits that are served: all within a second of theirs, while a good client never fails."""
    with program() as daemon, selectors.DefaultSelector() as selector:
        began = time.monotonic()
        with slow_clients(daemon, 500) as socks:
            since = (time.monotonic() - began, time.monotonic())
            for number, sock in enumerate(socks):
                sock.setblocking(False)
                selector.register(sock, selectors.EVENT_READ, SLOW[number % len(SLOW)])
            next_byte = time.monotonic() + 5.0
            while selector.get_map():
                for key, _ in selector.select(0.1):
                    assert isinstance(key.fileobj, socket.socket)
                    with contextlib.suppress(ConnectionResetError):
                        if key.fileobj.recv(4096):
                            continue
                    selector.unregister(key.fileobj)
                    # Connecting all of them took a moment, too.
                    assert time.monotonic() - since[1] <= key.data[2] + 1.0, key.data
                if time.monotonic() > next_byte:
                    next_byte += 5.0
                    for key in list(selector.get_map().values()):
                        with contextlib.suppress(OSError):
                            key.fileobj.send(key.data[1])  # type: ignore[union-attr]
                    assert all(seconds < 1.0 for seconds in chat_times(daemon, 3))


# --- what is left -----------------------------------------------------------------------------------------------------


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
