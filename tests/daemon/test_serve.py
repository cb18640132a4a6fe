"""`localllm serve` from the shell: where it listens, what it refuses, how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.running import localllm
from tests.daemon.measuring import linux
from tests.daemon.program import FAKE, REAL, Program, program
from tests.daemon.serving import raw_chat, read_all

posix = pytest.mark.skipif(sys.platform == "win32", reason="a signal of POSIX")


def begin(daemon: Program, words: str, until: bytes) -> socket.socket:
    """A stream under way: `until` was received."""
    sock = socket.create_connection(("127.0.0.1", daemon.port), timeout=20)
    sock.sendall(raw_chat(words, stream=True))
    data = b""
    while until not in data:
        data += sock.recv(65536)
    return sock


def test_it_says_where_it_listens_and_answers() -> None:
    with program() as daemon:
        assert daemon.said == [f"listening on {daemon.url}"]
        assert json.loads(daemon.get("/health").read()) == {"status": "ok"}


@posix
def test_one_signal_lets_running_answers_end() -> None:
    """F08: the port is closed at once, twenty streams come whole, the exit status is 0."""
    with program() as daemon, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(begin(daemon, "slow 150", b"word1")) for _ in range(20)]
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.stderr is not None
        daemon.said.append(daemon.process.stderr.readline())
        until = time.monotonic() + 0.1
        while True:
            try:
                socket.create_connection(("127.0.0.1", daemon.port), timeout=1).close()
            except (ConnectionRefusedError, ConnectionResetError):  # reset: it was in line when the port closed
                break
            assert time.monotonic() < until, "the port is still open"
        for sock in socks:
            rest = read_all(sock)
            assert b"word149" in rest
            assert b"[DONE]" in rest
        assert daemon.end() == 0


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_daemon_ends_at_once(number: signal.Signals) -> None:
    with program() as daemon, socket.create_connection(("127.0.0.1", daemon.port)) as idle:
        began = time.monotonic()
        daemon.process.send_signal(number)
        assert daemon.end() == 0
        assert time.monotonic() - began < 1.0
        assert read_all(idle) == b""


@posix
def test_two_signals_leave_at_once() -> None:
    with program() as daemon, begin(daemon, "hang", b"waiting") as sock:
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.stderr is not None
        daemon.said.append(daemon.process.stderr.readline())
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.end() == 1
        assert time.monotonic() - began < 1.0
        rest = read_all(sock)
        assert b"shutting_down" in rest
        assert b"[DONE]" not in rest


@posix
@pytest.mark.parametrize("drain_s", [0.2, pytest.param(30.0, marks=pytest.mark.long)])
def test_past_its_limit_a_drain_cuts_what_is_left(drain_s: float) -> None:
    """F08: with an error event, and the exit status that `localllm serve --help` names."""
    options = ("--drain", "0.2") if drain_s < 30 else ()
    with program(*options) as daemon, begin(daemon, "hang", b"waiting") as sock:
        sock.settimeout(40)
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        rest = read_all(sock)
        assert drain_s <= time.monotonic() - began < drain_s + 1.0
        assert b"shutting_down" in rest
        assert b"[DONE]" not in rest
        assert daemon.end() == 1
    help_text = " ".join(localllm("serve", "--help").stdout.split())
    assert "Exit code 0 after an orderly end, 1 when answers had to be cut" in help_text


def test_a_second_daemon_on_the_port_is_told_so() -> None:
    with program() as daemon:
        ran = localllm("serve", "--port", str(daemon.port))
        assert ran.returncode == 2
        assert f"a localllm daemon is running on port {daemon.port} already" in ran.stderr
        assert "Traceback" not in ran.stderr
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ran = localllm("serve", "--port", str(port))
        assert ran.returncode == 2
        assert f"port {port} is in use by another program" in ran.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("--host", "0.0.0.0"),
        ("--cors", "*"),
        ("--host", "no.such.host.invalid", "--insecure"),
        ("--key-file", "absent"),
        ("--socket", "{tmp}"),
        ("--port", "70000"),
    ],
    ids=" ".join,
)
def test_what_it_refuses(args: tuple[str, ...], tmp_path: Path) -> None:
    """T04: beyond loopback only with keys."""
    ran = localllm("serve", "--port", "0", *(arg.format(tmp=tmp_path) for arg in args))
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert "Traceback" not in ran.stderr


def test_a_model_that_cannot_be_preloaded_ends_it() -> None:
    with program("--preload", "absent") as daemon:
        assert daemon.end() == 1
        assert "error: no model absent" in daemon.said


def test_preloading_says_what_happened() -> None:
    with program("--preload", "tiny") as daemon:
        assert daemon.process.stderr is not None
        lines = [daemon.process.stderr.readline().strip() for _ in range(2)]
        assert lines == ["the context is 512 tokens, for want of memory", "tiny is loaded"]
        assert b'"name":"tiny"' in daemon.get("/api/localllm/props").read()


@pytest.mark.skipif(sys.platform == "win32", reason="no unix sockets in asyncio")
def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "daemon.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with program("--socket", str(path)) as daemon:
        assert daemon.said == [f"listening on {path}"]
        assert path.stat().st_mode & 0o077 == 0
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert b'{"status":"ok"}' in read_all(sock)
        ran = localllm("serve", "--socket", str(path))
        assert ran.returncode == 2
        assert "a daemon is listening" in ran.stderr
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.end() == 0
        assert not path.exists()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is Linux's")
def test_an_idle_daemon_is_small() -> None:
    with program() as daemon:
        daemon.get("/health").read()
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("RssAnon")]
        assert int(line.split()[1]) < 60 * 1024


@pytest.mark.skipif(os.name != "posix", reason="limits of files")
def test_few_files_pause_and_recover() -> None:
    """F20: with files for some clients only, the others wait; when those leave, it goes on."""
    import resource

    script = f"ulimit -n 64; exec {FAKE[0]} {FAKE[1]} serve --port 0"
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64
    with subprocess.Popen(["sh", "-c", script], stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stderr is not None
        port = int(process.stderr.readline().rsplit(":", 1)[1])
        try:
            crowd = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(100)]
            for sock in crowd:
                sock.close()
            with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
                sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert b"200 OK" in read_all(sock)
        finally:
            process.kill()
            said = process.stderr.read().splitlines()
        assert len(said) == 1
        assert "Too many open files" in said[0]


@linux
def test_without_threads_it_says_so_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F20: no room for the stack of one more thread."""
    import resource

    monkeypatch.setenv("LOCALLLM_HOME", str(tmp_path))
    with program(command=REAL) as daemon:
        assert daemon.get("/health").status == 200
        pid = daemon.process.pid
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        size = int(next(line for line in lines if line.startswith("VmSize")).split()[1]) * 1024
        # Half a stack: small things still have room, so that it is the thread that fails and nothing else.
        stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
        room = (stack if 0 < stack < 1 << 30 else 2 << 20) // 2
        resource.prlimit(pid, resource.RLIMIT_AS, (size + room, resource.RLIM_INFINITY))
        for _ in range(3):
            answer = daemon.get("/v1/models")
            assert answer.status == 503
            assert answer.getheader("retry-after") == "5"
            assert json.loads(answer.read())["error"]["code"] == "out_of_resources"
            assert daemon.get("/health").status == 200
        resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert daemon.get("/v1/models").status == 200
