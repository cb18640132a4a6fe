"""Measure what HTTP costs: one stream through the daemon against the engine alone, start, memory, 1,000 idle streams.

    python scripts/bench_http.py --model FILE.gguf [--rounds 9] [--tokens 128] [--json]

Both sides of the stream have a child of their own with the same options and are measured turn about in one run, by a
client in this process: the daemon's over a socket, the engine's through Service. Rates are of the tokens after the
first; CPU time is that of the process around the child, on either side (Linux). The start is from exec to the first
200 of /health. The 1,000 idle streams are of the tests' scripted Backend: what is measured is the daemon's share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localllm.api import ChatRequest, Finished, LoadOptions, Message, SamplingParams, TextDelta
from localllm.config import Settings
from localllm.service import Service

FAKE = Path(__file__).resolve().parent.parent / "tests" / "cli" / "fake_backend.py"
REAL = ("-c", "import sys; from localllm.cli import main; sys.exit(main())")
WORDS = "Tell a long story about a lighthouse."
NUM_IDLE = 1000


@contextmanager
def daemon(*args: str) -> Iterator[tuple[subprocess.Popen[str], int, float]]:
    """A daemon, its port, and the seconds from exec to the first /health."""
    with tempfile.TemporaryDirectory() as home:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *args, "--port", "0"],
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "LOCALLLM_HOME": home},
        )
        try:
            assert process.stderr is not None
            found = re.search(r":(\d+)$", process.stderr.readline().rstrip())
            assert found, "the daemon did not start"
            port = int(found[1])
            assert b"200 OK" in ask(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            yield process, port, time.perf_counter() - began
        finally:
            process.terminate()
            process.communicate()


def ask(port: int, data: bytes) -> bytes:
    """One request on a connection that is closed after it."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def post(model: str, words: str, **fields: Any) -> bytes:
    """A streamed chat as bytes."""
    body = {"model": model, "messages": [{"role": "user", "content": words}], "stream": True, **fields}
    data = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += "Content-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(data) + data


def over_http(port: int, model: str, num_tokens: int) -> float:
    """Tokens a second of one stream."""
    fields = {"temperature": 0, "max_tokens": num_tokens, "ignore_eos": True}
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(post(model, WORDS, **fields))
        first = last = 0.0
        data = b""
        while b"[DONE]" not in data[-200:]:
            piece = sock.recv(65536)
            assert piece, data[-500:]
            data += piece
            if b'"content":"' in piece.replace(b'"content":""', b""):
                last = time.perf_counter()
                first = first or last
    return (num_tokens - 1) / (last - first)


async def in_process(service: Service, model: str, num_tokens: int) -> float:
    """The same without HTTP."""
    sampling = SamplingParams(temperature=0, max_tokens=num_tokens, ignore_eos=True)
    first = last = 0.0
    async for event in service.chat(ChatRequest(model, (Message("user", WORDS),), sampling)):
        if isinstance(event, TextDelta):
            last = time.perf_counter()
            first = first or last
        elif isinstance(event, Finished):
            assert event.usage.num_output_tokens == num_tokens
    return (num_tokens - 1) / (last - first)


async def measure_stream(model: str, rounds: int, num_tokens: int) -> dict[str, Any]:
    """Both sides, turn about."""
    rates: dict[str, list[float]] = {"http": [], "engine": []}
    cpu_s = {"http": 0.0, "engine": 0.0}
    options = ("--preload", model, "--ctx", "2048", "--slots", "1")
    with tempfile.TemporaryDirectory() as home, daemon(*REAL, "serve", *options) as (process, port, start_s):
        settings = Settings(store_dir=Path(home), offline=True)
        service = Service(settings, load_options=LoadOptions(num_ctx=2048, num_slots=1))
        try:
            await asyncio.to_thread(over_http, port, model, 16)
            await in_process(service, model, 16)
            for number in range(rounds):
                for side in ("http", "engine") if number % 2 else ("engine", "http"):
                    pid = os.getpid() if side == "engine" else process.pid
                    before = cpu_seconds(pid)
                    if side == "engine":
                        rates[side].append(await in_process(service, model, num_tokens))
                    else:
                        rates[side].append(over_http(port, model, num_tokens))
                    cpu_s[side] += cpu_seconds(pid) - before
        finally:
            await service.close()
    http, engine = (statistics.median(rates[side]) for side in ("http", "engine"))
    ratios = [h / e for h, e in zip(rates["http"], rates["engine"], strict=True)]
    return {
        "http_tok_s": round(http, 1),
        "engine_tok_s": round(engine, 1),
        "ratio_of_medians": round(http / engine, 3),
        "median_of_ratios": round(statistics.median(ratios), 3),
        "rounds_http": [round(rate, 1) for rate in rates["http"]],
        "rounds_engine": [round(rate, 1) for rate in rates["engine"]],
        "daemon_cpu_us_per_token": round(cpu_s["http"] / rounds / num_tokens * 1e6),
        "service_cpu_us_per_token": round(cpu_s["engine"] / rounds / num_tokens * 1e6),
        "start_s": round(start_s, 3),
    }


def measure_start(rounds: int) -> dict[str, Any]:
    """Start to /health, and what an idle daemon takes."""
    starts, sizes = [], []
    for _ in range(rounds):
        with daemon(*REAL, "serve") as (process, _port, start_s):
            starts.append(start_s)
            sizes.append(rss_anon_kib(process.pid))
    return {
        "start_to_health_s": round(statistics.median(starts), 3),
        "idle_rss_anon_mib": round(statistics.median(sizes) / 1024, 1),
    }


def measure_idle() -> dict[str, Any]:
    """Memory of streams that wait, and what a further client notices of them."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (NUM_IDLE + 200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with daemon(str(FAKE), "serve", "--max-requests", str(NUM_IDLE + 50)) as (process, port, _start):
        alone_s = statistics.median(seconds_of_echo(port) for _ in range(50))
        before = rss_anon_kib(process.pid)
        crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(NUM_IDLE)]
        for sock in crowd:
            sock.sendall(post("tiny", "hang"))
        for sock in crowd:
            while b"waiting" not in sock.recv(4096):
                pass
        each_kib = (rss_anon_kib(process.pid) - before) / NUM_IDLE
        among_s = statistics.median(seconds_of_echo(port) for _ in range(50))
        for sock in crowd:
            sock.close()
    return {
        "idle_stream_kib": round(each_kib, 1),
        "echo_alone_ms": round(alone_s * 1e3, 2),
        "echo_among_1000_ms": round(among_s * 1e3, 2),
    }


def seconds_of_echo(port: int) -> float:
    """A whole short chat."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(post("tiny", "echo hi"))
        data = b""
        while b"[DONE]" not in data:
            data += sock.recv(65536)
    return time.perf_counter() - began


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_anon_kib(pid: int) -> int:
    """Anonymous memory of a process."""
    found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a GGUF file; without it only start and idle streams are measured")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found: dict[str, Any] = measure_start(args.rounds) | measure_idle()
    if args.model:
        found |= asyncio.run(measure_stream(os.path.abspath(args.model), args.rounds, args.tokens))
    if args.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name}: {value}" for name, value in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
