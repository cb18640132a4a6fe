"""Measure serving: the same workloads against any OpenAI-compatible servers and localllm's engine, in one run.

    python scripts/bench_serving.py --start-llama-server PATH --model FILE.gguf --engine FILE.gguf
    python scripts/bench_serving.py ollama=http://127.0.0.1:11434#smollm2:135m daemon=http://127.0.0.1:8642 [--json]

Targets are measured turn about: each round runs every workload against each of them, and who is first changes. Figures
are medians over the rounds, and ratios to the reference (the first target, or `--reference NAME`). All answers are
greedy and of one length (`ignore_eos`, where a target takes it), and counted by the target's own `usage`.

workloads:
  one stream      a short prompt, 128 tokens
  shared prompt   8 streams at once with a system prompt of 700 tokens in common, 64 tokens each
  conversations   10 conversations of 3 turns, turn about, two at a time; a system prompt of 200 tokens in common, as
                  one app's conversations have, turns of 30 tokens, answers of 48
  late prompt     a prompt of 2,600 tokens comes while 3 streams run: their longest stall, and its first token
  schema-bound    4 answers at once, each bound to a JSON Schema and checked against it
  agent           tools and a history that grows by a tool's result in each of 6 turns

targets:
  NAME=URL[#MODEL]             a server; without #MODEL the first one that /v1/models lists
  --engine MODEL[,KEY=VALUE]   localllm's engine in this process, without HTTP: a model's name or a GGUF file, and
                               fields of localllm.api.LoadOptions (`num_slots=8`)
  --start-llama-server PATH    start this llama-server with `-m FILE` and its defaults, measure it first, end it

peers:
  llama-server   of the same llama.cpp as localllm's: get its source with
                 `pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36`, unpack it, and in
                 `vendor/llama.cpp` run `cmake -B build -DGGML_NATIVE=ON` and
                 `cmake --build build --config Release --target llama-server`. Run with nothing but
                 `llama-server -m FILE.gguf --host 127.0.0.1 --port PORT`; --start-llama-server does that.
  Ollama         from ollama.com; `ollama serve`, `ollama pull smollm2:135m`, then ollama=http://127.0.0.1:11434#smollm2:135m.
                 It ignores ignore_eos and has a context of its own: see OLLAMA_CONTEXT_LENGTH (4096 or more is needed).
  others         vLLM `vllm serve MODEL`, LM Studio `lms server start`, llamafile `--server`, koboldcpp: any server with
                 /v1/chat/completions. Give them the same weights and at least 4,096 tokens of context for one request.

exit status: 0 all was measured; 1 requests failed (they are counted in the report) or a target could not be opened;
2 wrong usage; 3 --run-s was over before the last round (the report has what was measured until then); 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import secrets
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from serving.chart import chart
from serving.engine_target import EngineTarget
from serving.http_target import HttpTarget
from serving.llama_server import LlamaServer
from serving.report import as_json, as_table
from serving.run import Options, Results, measure
from serving.target import Target, TargetError
from serving.workloads import WORKLOADS


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and say by the status how it went."""
    parser = _parser()
    args = parser.parse_args(arguments)
    args.seed = args.seed or secrets.token_hex(4)
    server = None
    if args.start_llama_server:
        if not args.model:
            parser.error("--start-llama-server needs --model")
        server = LlamaServer(args.start_llama_server, args.model, shlex.split(args.llama_server_args))
    try:
        targets = _targets(args, server)
        reference = args.reference or targets[0].name
        if reference not in [target.name for target in targets]:
            raise ValueError(f"no target is called {reference}")
    except ValueError as error:
        parser.error(str(error))
    try:
        results = asyncio.run(_run(targets, reference, args, server))
    except TargetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    _show(results, args, server)
    return 1 if results.num_failed else 0 if results.complete else 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="NAME=URL[#MODEL]")
    parser.add_argument("--engine", action="append", default=[], metavar="MODEL[,KEY=VALUE]")
    parser.add_argument("--start-llama-server", metavar="PATH", help="needs --model")
    parser.add_argument("--model", metavar="GGUF", help="what the started llama-server runs")
    parser.add_argument("--llama-server-args", default="", metavar="ARGS", help="more arguments for it")
    parser.add_argument("--reference", metavar="NAME", help="the target that ratios are made to (default: the first)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workload", action="append", choices=list(WORKLOADS), help="only this one; may be repeated")
    parser.add_argument(
        "--tools", choices=("auto", "native", "text"), default="auto", help="how the agent has its tools"
    )
    parser.add_argument(
        "--seed", help="of the texts; default: a new one, since prefixes may lie on disk from earlier runs"
    )
    parser.add_argument("--request-s", type=float, default=120.0, help="a request without an end by then has failed")
    parser.add_argument("--run-s", type=float, default=3600.0, help="the whole run stops then")
    parser.add_argument("--api-key-env", metavar="VARIABLE", help="send the key in this environment variable")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--svg", metavar="FILE", help="write a chart")
    return parser


def _targets(args: argparse.Namespace, server: LlamaServer | None) -> list[Target]:
    """All targets in order. Raises ValueError for one that is not understood."""
    key = os.environ.get(args.api_key_env, "") if args.api_key_env else ""
    targets: list[Target] = []
    if server is not None:
        targets.append(HttpTarget("llama-server", server.url, request_s=args.request_s))
    for text in args.targets:
        name, mark, url = text.partition("=")
        if not mark or not url.startswith(("http://", "https://")):
            raise ValueError(f"{text} is no NAME=URL")
        url, _, model = url.partition("#")
        targets.append(HttpTarget(name, url, model=model or None, api_key=key or None, request_s=args.request_s))
    for text in args.engine:
        model, *pairs = text.split(",")
        options = dict(pair.partition("=")[::2] for pair in pairs)
        try:
            name = "localllm" + (f" {','.join(pairs)}" if pairs else "")
            targets.append(EngineTarget(name, model, options, request_s=args.request_s))
        except msgspec.ValidationError as error:
            raise ValueError(f"--engine {text}: {error}") from error
    names = [target.name for target in targets]
    if not targets or len(set(names)) < len(names):
        raise ValueError("two targets have one name" if targets else "no target; see --help")
    return targets


async def _run(targets: list[Target], reference: str, args: argparse.Namespace, server: LlamaServer | None) -> Results:
    options = Options(args.rounds, args.seed, tuple(args.workload or WORKLOADS), args.tools, run_s=args.run_s)
    try:
        if server is not None:
            await server.start()
        return await measure(targets, reference, options, lambda line: print(line, file=sys.stderr, flush=True))
    finally:
        if server is not None:
            server.close()


def _show(results: Results, args: argparse.Namespace, server: LlamaServer | None) -> None:
    facts = {
        "commit": _commit(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "rounds_asked": args.rounds,
        "seed": args.seed,
        "llama_server": None
        if server is None
        else [Path(part).name if part in _own(args) else part for part in server.command],
    }
    if args.json:
        print(json.dumps(as_json(results, facts), indent=2))
    else:
        how = f"median of {args.rounds} rounds, seed {args.seed}"
        print(f"{facts['machine']}, commit {facts['commit']}, {how}\n\n{as_table(results)}")
    if args.svg:
        Path(args.svg).write_text(chart(results), encoding="utf-8")


def _own(args: argparse.Namespace) -> tuple[str, str]:
    """Paths of this machine, of which a report shows the names only."""
    return args.start_llama_server, args.model


def _commit() -> str:
    """The checkout's commit, with a mark where files differ from it."""
    here = Path(__file__).parent
    command: list[Any] = ["git", "-C", here, "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    # Ended from outside, too, it takes the server it started along.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    sys.exit(main())
