"""ps, load, stop, logs, and `run` over a running daemon: the scripted Backend behind a real server."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from localllm import daemon_file
from localllm.api import LoadedModel
from localllm.cli.daemon_log import follow, last_lines
from localllm.cli.load import duration_s
from localllm.cli.ps import until
from localllm.cli.version import own_version
from localllm.errors import UsageError
from tests.cli.running import Ran, localllm
from tests.daemon.program import REAL, Program, program
from tests.daemon.serving import raw_chat

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and modes of POSIX")


def real(*args: str) -> Ran:
    """`localllm ARGS` with the Service as its Backend, if it uses one."""
    return subprocess.run(
        [*REAL, *args], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=60, check=False
    )


@pytest.mark.parametrize("args", [("ps",), ("load", "tiny"), ("stop", "tiny")])
def test_without_a_daemon_that_is_said(args: tuple[str, ...]) -> None:
    ran = localllm(*args)
    assert ran.returncode == 3
    assert "no daemon is running" in ran.stderr
    assert "localllm serve" in ran.stderr
    assert ran.stdout == ""


def test_load_ps_stop() -> None:
    with program():
        assert localllm("ps").stderr == "no model is in memory\n"
        ran = localllm("load", "tiny", "--keep-alive", "10m", "--pin")
        assert ran.returncode == 0
        assert "note: the context is 512 tokens" in ran.stderr
        assert "tiny is loaded" in ran.stderr
        assert localllm("ps", "--quiet").stdout == "tiny\n"
        (model,) = json.loads(localllm("ps", "--json").stdout)
        assert (model["name"], model["num_ctx"], model["state"]) == ("tiny", 8192, "ready")
        table = localllm("ps").stdout.splitlines()
        assert table[0].split() == ["NAME", "SIZE", "CONTEXT", "DEVICE", "RUNS", "WAIT", "UNTIL"]
        assert localllm("stop", "tiny").stderr == "tiny is unloaded\n"
        assert localllm("ps", "--quiet").stdout == ""
        missing = localllm("load", "absent")
        assert missing.returncode == 1
        assert "no model absent" in missing.stderr


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("0", 0), ("ever", -1), ("-1", -1)]
)
def test_times(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 weeks", "-5m", "1e3"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        duration_s(text)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"expires_in_s": 59.6}, "60 s"),
        ({"expires_in_s": 299.0}, "5 min"),
        ({"expires_in_s": 86400.0}, "24 h"),
        ({"num_active": 1}, "in use"),
        ({}, "stays"),
        ({"pinned": True}, "pinned"),
        ({"state": "leaving", "pinned": True}, "leaving"),
    ],
)
def test_until_when(fields: dict[str, object], words: str) -> None:
    assert until(LoadedModel("m", 1, 512, 1, 512, "CPU", **fields)) == words  # type: ignore[arg-type]


# --- run ----------------------------------------------------------------------------------------------------------


def test_run_is_answered_by_the_daemon() -> None:
    with program() as daemon:
        ran = real("run", "smollm2:135m", "echo from the daemon")
        assert (ran.stdout, ran.stderr) == ("from the daemon\n", "")
        assert json.loads(daemon.get("/api/localllm/loaded").read())["models"][0]["name"] == "smollm2:135m"


def test_run_has_the_daemon_fetch_what_it_lacks() -> None:
    with program():
        ran = real("run", "new", "echo hi")
        assert ran.stdout == "hi\n"
        missing = real("run", "absent", "echo hi")
        assert missing.returncode == 1
        assert "no model absent" in missing.stderr
        assert "no model" in real("run", "tiny2", "echo hi", "--offline").stderr


@pytest.mark.parametrize("args", [("--ctx", "512"), ("--threads", "1"), ("--draft-model", "tiny")])
def test_options_that_take_a_load_of_their_own_are_said(args: tuple[str, str]) -> None:
    with program():
        ran = real("run", "smollm2:135m", "echo hi", "--offline", *args)
        assert f"note: not asking the running daemon: {args[0]} takes a load of its own" in ran.stderr
        assert ran.returncode == 1


def test_local_leaves_the_daemon_alone() -> None:
    with program() as daemon:
        ran = real("run", "smollm2:135m", "echo hi", "--offline", "--local")
        assert ran.returncode == 1
        assert "note" not in ran.stderr
        assert json.loads(daemon.get("/api/localllm/loaded").read())["models"] == []


def test_looking_for_a_daemon_that_is_not_there_costs_nothing() -> None:
    began = time.perf_counter()
    assert daemon_file.find() is None
    assert time.perf_counter() - began < 0.05


# --- the file -----------------------------------------------------------------------------------------------------


@posix
def test_the_file_is_private_and_goes_with_the_daemon() -> None:
    with program() as daemon:
        path = daemon_file.daemon_file()
        assert path.stat().st_mode & 0o777 == 0o600
        found = daemon_file.find()
        assert found is not None
        assert (found.url, found.pid, found.version) == (daemon.url, daemon.process.pid, own_version())
        assert found.key is None
        path.chmod(0o644)
        assert daemon_file.find() is None, "a file that others can read is believed"
        path.chmod(0o600)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.end() == 0
        assert not path.exists()


@posix
def test_a_file_that_was_left_behind_is_no_daemon() -> None:
    with program() as daemon:
        daemon.process.kill()
        daemon.process.wait()
        path = daemon_file.daemon_file()
        assert path.exists()
        began = time.perf_counter()
        assert daemon_file.find() is None
        assert time.perf_counter() - began < 0.05
        assert localllm("ps").returncode == 3
        # Somebody else may listen there by now.
        other = daemon_file.DaemonFile(daemon.process.pid, own_version(), "http://127.0.0.1:1")
        daemon_file.write(other)
        assert daemon_file.find() is None
    path.write_text("{no json")
    assert daemon_file.find() is None


@posix
def test_a_daemon_with_keys_lets_its_owner_in(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("me = a-key-of-some-length\n")
    keys.chmod(0o600)
    with program("--key-file", str(keys)) as daemon:
        assert daemon.get("/api/localllm/loaded").status == 401
        assert localllm("load", "tiny").returncode == 0
        # The owner's key is another after a reload of the file, but still good.
        daemon.process.send_signal(signal.SIGHUP)
        assert daemon.process.stderr is not None
        assert "read again" in "".join(daemon.process.stderr.readline() for _ in range(1))
        assert localllm("ps", "--quiet").stdout == "tiny\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no unix sockets in asyncio")
def test_a_daemon_on_a_socket_is_found(tmp_path: Path) -> None:
    with program("--socket", str(tmp_path / "s")):
        assert localllm("load", "smollm2:135m").returncode == 0
        assert real("run", "smollm2:135m", "echo hi").stdout == "hi\n"


# --- the log ------------------------------------------------------------------------------------------------------


def test_the_log_has_routes_and_no_prompts() -> None:
    ran = localllm("logs")
    assert ran.returncode == 1
    assert "there is no log" in ran.stderr
    with program() as daemon:
        assert real("run", "smollm2:135m", "echo CANARY").stdout == "CANARY\n"
        daemon.get("/health").read()
        assert daemon.said == [f"listening on {daemon.url}"]
        log = localllm("logs").stdout
    assert "POST /api/localllm/chat 200" in log
    assert "GET /health 200" in log
    assert "CANARY" not in log
    assert len(localllm("logs", "-n", "1").stdout.splitlines()) == 1
    if os.name == "posix":
        from localllm.cli.daemon_log import log_file

        assert log_file().stat().st_mode & 0o077 == 0


def test_the_end_of_a_log_and_what_comes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {n} {'x' * 100}\n" for n in range(2000)))
    assert [line.split()[1] for line in last_lines(path, 3)] == ["1997", "1998", "1999"]
    assert len(last_lines(path, 5000)) == 2000
    assert last_lines(path, 0) == []
    lines = follow(path)

    def add() -> None:
        # The generator begins at the end of the file when it is first asked.
        with path.open("a") as file:
            file.write("new one\n")

    threading.Timer(0.3, add).start()
    assert next(lines) == "new one"
    path.rename(tmp_path / "log.1")
    path.write_text("after rotation\n")
    assert next(lines) == "after rotation"


# --- reloading ----------------------------------------------------------------------------------------------------


@posix
def test_a_hangup_reads_the_settings_again_and_a_broken_file_changes_nothing(private_home: Path) -> None:
    """F07 in short: streams go on, and what is wrong is said."""
    with program() as daemon:
        config = private_home / "config.toml"
        private_home.mkdir(exist_ok=True)

        def hang_up() -> str:
            daemon.process.send_signal(signal.SIGHUP)
            assert daemon.process.stderr is not None
            return daemon.process.stderr.readline()

        def default_model() -> str:
            return str(json.loads(daemon.get("/api/localllm/props").read())["default_model"])

        assert default_model() == "smollm2:135m"
        config.write_text('default_model = "tiny"\n')
        streaming = subprocess.Popen(
            [*REAL, "run", "smollm2:135m", "slow"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, encoding="utf-8"
        )
        with streaming:
            assert streaming.stdout is not None
            assert streaming.stdout.read(4) == "word"
            assert "were read again" in hang_up()
            assert default_model() == "tiny"
            config.write_text("default_model = 5\n")
            said = hang_up()
            assert "all is as it was" in said
            assert "default_model" in said
            assert default_model() == "tiny"
            for _ in range(20):
                daemon.process.send_signal(signal.SIGHUP)
            assert streaming.stdout.read().endswith("word499 \n")
        assert streaming.returncode == 0


def test_a_reload_over_http_says_what_is_wrong(private_home: Path) -> None:
    with program() as daemon:
        assert post(daemon, "/api/localllm/reload") == (200, {"status": "reloaded"})
        private_home.mkdir(exist_ok=True)
        (private_home / "config.toml").write_text("no_such_setting = 1\n")
        status, body = post(daemon, "/api/localllm/reload")
        assert status == 503
        assert "no_such_setting" in body["error"]["message"]


def post(daemon: Program, path: str) -> tuple[int, Any]:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=20)
    connection.request("POST", path, b"{}", {"content-type": "application/json"})
    got = connection.getresponse()
    answer = json.loads(got.read())
    connection.close()
    return got.status, answer


@posix
@pytest.mark.long
def test_a_hundred_streams_go_on_under_a_hundred_hangups(private_home: Path) -> None:
    """F07: none is broken, each says what it says without; then a broken file, and still none is."""
    with program() as daemon:
        socks = []
        for _ in range(100):
            socks.append(socket.create_connection(("127.0.0.1", daemon.port), timeout=60))
            socks[-1].sendall(raw_chat("slow", stream=True))
        for number in range(100):
            if number == 90:
                private_home.mkdir(exist_ok=True)
                (private_home / "config.toml").write_text("no_such_setting = 1\n")
            daemon.process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        wholes = [read_until_done(sock) for sock in socks]
        said = ["".join(re.findall(r'"content":"([^"]*)"', whole.decode())) for whole in wholes]
        assert set(said) == {"".join(f"word{n} " for n in range(500))}
        assert json.loads(daemon.get("/health").read()) == {"status": "ok"}


def read_until_done(sock: socket.socket) -> bytes:
    """A stream to its end."""
    data = b""
    with sock:
        while b"[DONE]" not in data and (piece := sock.recv(65536)):
            data += piece
    return data
