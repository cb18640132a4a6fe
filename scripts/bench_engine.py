"""Measure the engine: prefill and decode at 1, 4, 8, 16 sequences, a shared prefix, and a late long prompt.

    python scripts/bench_engine.py --model FILE.gguf [--rounds 3] [--llama-bench PATH] [--batched-bench PATH] [--json]

Every figure is taken through the engine child and its pipe, as a client sees it. The same run measures
llama-cpp-python's `Llama` (one request at a time, as it works) and, where their paths are given, llama.cpp's own
`llama-bench` and `llama-batched-bench`, turn about for each figure; medians, and medians of the rounds' ratios, are
printed. `--part beside` leaves out what has no peer, `--part apart` takes only that. The two tools are built from
llama-cpp-python's source distribution: `pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36`, unpack it,
and in `vendor/llama.cpp` run `cmake -B build -DGGML_NATIVE=ON` and
`cmake --build build --target llama-bench llama-batched-bench`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from statistics import median

import msgspec

from localllm import devices
from localllm.api import CompletionRequest, Finished, SamplingParams
from localllm.engine.frames import LoadSpec
from localllm.engine.process import EngineProcess

SEQUENCES = (1, 4, 8, 16)
NUM_PROMPT = 64
NUM_OUTPUT = 64
GREEDY = SamplingParams(temperature=0, ignore_eos=True)
FIRST_ID, LAST_ID = 1000, 40_000
FRAME_S = 0.003
SIDES = ("localllm", "Llama", "llama-bench", "llama-batched-bench")

# By side and figure: the value of each round.
Rounds = dict[str, dict[str, list[float]]]


@asynccontextmanager
async def engine(spec: LoadSpec) -> AsyncIterator[EngineProcess]:
    """A loaded engine that has computed something once."""
    process = EngineProcess(spec)
    try:
        async for _ in process.start():
            pass
        await run_one(process, tokens(32), 8)
        yield process
    finally:
        await process.close()


def tokens(count: int) -> tuple[int, ...]:
    """Random token ids: no prefix in common with anything."""
    return tuple(random.randrange(FIRST_ID, LAST_ID) for _ in range(count))


async def run_one(process: EngineProcess, prompt: tuple[int, ...], num_output: int) -> tuple[list[float], Finished]:
    """Arrival times of one request's text, and its end. A token that is half a character brings no text yet."""
    sampling = msgspec.structs.replace(GREEDY, max_tokens=num_output)
    arrivals: list[float] = []
    async for event in process.complete(CompletionRequest("bench", prompt, sampling)):
        arrivals.append(time.perf_counter())
        if isinstance(event, Finished):
            return arrivals, event
    raise AssertionError("a stream ends in Finished")


async def decode_rate(process: EngineProcess, num: int) -> float:
    """Tokens per second of `num` sequences while all decode: one that came a step late prefills beside others."""
    results = await asyncio.gather(*(run_one(process, tokens(NUM_PROMPT), NUM_OUTPUT) for _ in range(num)))
    all_arrivals = [arrivals for arrivals, _ in results]
    if num == 1:
        return (NUM_OUTPUT - 1) / (all_arrivals[0][-1] - all_arrivals[0][0])
    begin, end = max(each[0] for each in all_arrivals), min(each[-1] for each in all_arrivals)
    times = sorted(at for each in all_arrivals for at in each if begin <= at <= end)
    # What a step brings arrives at once. A token that is half a character brings no text, but not to all at a time.
    num_steps = sum(b - a > FRAME_S for a, b in itertools.pairwise(times))
    return num * num_steps / (times[-1] - times[0])


async def prefill_rate(process: EngineProcess, count: int) -> float:
    """Prompt tokens per second of one request, alone."""
    _, end = await run_one(process, tokens(count), 1)
    return count / end.timings.prompt_s


async def shared_prefix(process: EngineProcess, num_own: int) -> float:
    """The last of 8 first tokens after a shared 700 and `num_own` tokens each, as a ratio to one such request alone."""
    begun = time.perf_counter()
    alone, _ = await run_one(process, tokens(700 + num_own), 1)
    alone_s = alone[0] - begun
    prefix = tokens(700)
    begun = time.perf_counter()
    results = await asyncio.gather(*(run_one(process, prefix + tokens(num_own), 4) for _ in range(8)))
    return (max(arrivals[0] for arrivals, _ in results) - begun) / alone_s


async def late_prompt(process: EngineProcess) -> tuple[float, float, float]:
    """The longest gap in 3 streams when a 2,500-token prompt arrives; seconds to its first token, then and alone."""
    begun = time.perf_counter()
    alone, _ = await run_one(process, tokens(2500), 1)
    alone_s = alone[0] - begun
    streams = [asyncio.create_task(run_one(process, tokens(64), 400)) for _ in range(3)]
    await asyncio.sleep(1.0)
    begun = time.perf_counter()
    late, _ = await run_one(process, tokens(2500), 4)
    late_s = late[0] - begun
    gaps = []
    for arrivals, _ in await asyncio.gather(*streams):
        after = [at for at in arrivals if at > begun - 0.5]
        gaps.append(max(b - a for a, b in itertools.pairwise(after)))
    return max(gaps), late_s, alone_s


async def measure_apart(path: str, threads: int) -> dict[str, float]:
    """One round of what has no peer: a prefix in common, and a late long prompt."""
    spec = LoadSpec((path,), 4096, 9 * 4096, 9, 512, threads, "streams", (), host_tokens=20_000)
    async with engine(spec) as process:
        figures = {f"shared_prefix_700+{own}_ratio": await shared_prefix(process, own) for own in (8, 20)}
        stall_s, late_s, late_alone_s = await late_prompt(process)
    return figures | {
        "late_prompt_stall_s": stall_s,
        "late_prompt_first_token_s": late_s,
        "late_prompt_alone_s": late_alone_s,
    }


async def measure_beside(process: EngineProcess, args: argparse.Namespace, rounds: Rounds, is_odd: bool) -> None:
    """One round of what others do too, figure by figure turn about: a machine that slows down slows both sides."""

    async def in_turn(pairs: list[tuple[str, Callable[[], Awaitable[dict[str, float]]]]]) -> None:
        for side, measured in reversed(pairs) if is_odd else pairs:
            for name, figure in (await measured()).items():
                rounds[side].setdefault(name, []).append(figure)

    async def prefill() -> dict[str, float]:
        _, end = await run_one(process, tokens(1), 129)
        return {"prefill_512": await prefill_rate(process, 512), "decode_128": 128 / end.timings.decode_s}

    async def bench() -> dict[str, float]:
        return await asyncio.to_thread(measure_llama_bench, args.llama_bench, args.model, args.threads)

    await in_turn([("localllm", prefill), *([("llama-bench", bench)] if args.llama_bench else [])])
    for num in args.sequences:

        async def decode(num: int = num) -> dict[str, float]:
            return {f"decode_{num}": await decode_rate(process, num)}

        async def batched(num: int = num) -> dict[str, float]:
            return await asyncio.to_thread(measure_batched_bench, args.batched_bench, args.model, args.threads, num)

        await in_turn([("localllm", decode), *([("llama-batched-bench", batched)] if args.batched_bench else [])])
    for name, figure in (await asyncio.to_thread(measure_llama, args.model, args.threads, args.sequences)).items():
        rounds["Llama"].setdefault(name, []).append(figure)


async def measure(args: argparse.Namespace) -> Rounds:
    """All rounds: side, figure, its value in each round."""
    rounds: Rounds = {side: {} for side in SIDES}
    spec = LoadSpec((args.model,), 1024, 16 * 1024, 16, 1024, args.threads, "streams", (), host_tokens=0)
    if args.part != "apart":
        async with engine(spec) as process:
            for number in range(args.rounds):
                await measure_beside(process, args, rounds, number % 2 == 1)
    for _ in range(args.rounds if args.part != "beside" else 0):
        for name, figure in (await measure_apart(args.model, args.threads)).items():
            rounds["localllm"].setdefault(name, []).append(figure)
    return {side: figures for side, figures in rounds.items() if figures}


def measure_llama(path: str, threads: int, numbers: Sequence[int]) -> dict[str, float]:
    """llama-cpp-python's `Llama`: prefill of 512 and 64 tokens decoded, one request at a time."""
    code = f"""
import json, random, sys, time
from llama_cpp import Llama
model = Llama({path!r}, n_ctx=1024, n_threads={threads}, n_threads_batch={threads}, verbose=False)
def run(num_prompt, num_output):
    prompt = [random.randrange({FIRST_ID}, {LAST_ID}) for _ in range(num_prompt)]
    model.reset()
    begun, times = time.perf_counter(), []
    for token in model.generate(prompt, temp=0.0):
        times.append(time.perf_counter())
        if len(times) == num_output:
            return num_prompt / (times[0] - begun), (num_output - 1) / max(1e-9, times[-1] - times[0])
run(32, 8)
print(json.dumps({{"prefill_512": run(512, 1)[0], "decode_1": run({NUM_PROMPT}, {NUM_OUTPUT})[1]}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    # It runs one request at a time: several together take the sum of their times.
    return figures | {f"decode_{num}": figures["decode_1"] for num in numbers}


def measure_llama_bench(tool: str, path: str, threads: int) -> dict[str, float]:
    """llama-bench: prefill of 512, and decode of 128 from an empty context, one sequence."""
    command = [tool, "-m", path, "-t", str(threads), "-p", "512", "-n", "128", "-r", "1", "-o", "json"]
    rows = json.loads(_run_tool(command))
    return {("prefill_512" if row["n_prompt"] else "decode_128"): row["avg_ts"] for row in rows}


def measure_batched_bench(tool: str, path: str, threads: int, num: int) -> dict[str, float]:
    """llama-batched-bench: decode of `num` sequences of 64 + 64 tokens, a stream for each."""
    sizes = ["-npp", str(NUM_PROMPT), "-ntg", str(NUM_OUTPUT), "-npl", str(num)]
    command = [tool, "-m", path, "-c", str(num * 1024), "-b", "2048", "-ub", "512", "-t", str(threads), *sizes]
    command += ["--output-format", "jsonl"]
    rows = [json.loads(line) for line in _run_tool(command).splitlines() if line.startswith("{")]
    return {f"decode_{row['pl']}": row["speed_tg"] for row in rows}


def _run_tool(command: list[str]) -> str:
    folder = os.path.dirname(os.path.abspath(command[0]))
    environ = os.environ | {"LD_LIBRARY_PATH": folder, "DYLD_LIBRARY_PATH": folder}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True, env=environ)
    return done.stdout


def main() -> None:
    """Measure in turn, print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=devices.num_cores())
    parser.add_argument("--sequences", type=int, nargs="+", default=SEQUENCES, help="how many at a time, with peers")
    parser.add_argument("--part", choices=("all", "beside", "apart"), default="all")
    parser.add_argument("--llama-bench", help="path of llama.cpp's llama-bench")
    parser.add_argument("--batched-bench", help="path of llama.cpp's llama-batched-bench")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rounds = asyncio.run(measure(args))
    if args.json:
        print(json.dumps(rounds, indent=2))
    else:
        _print_table(rounds, args)


def _print_table(rounds: Rounds, args: argparse.Namespace) -> None:
    print(f"{platform.machine()}, {args.threads} threads, {os.path.basename(args.model)}, medians of {args.rounds}\n")
    peers = [side for side in rounds if side != "localllm"]
    print("| figure | localllm | " + " | ".join(f"{peer} | ratio" for peer in peers) + " |")
    print("|---" * (2 + 2 * len(peers)) + "|")
    for name, ours in rounds["localllm"].items():
        cells = []
        for peer in peers:
            theirs = rounds[peer].get(name)
            cells += ["", ""] if theirs is None else [f"{median(theirs):.1f}", f"{_ratio(ours, theirs):.2f}"]
        print(f"| {name} | {median(ours):.2f} | " + " | ".join(cells) + " |")


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the rounds' ratios: what both met in a round cancels out."""
    return median(mine / other for mine, other in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
