"""Measure the prefix cache: what idle prefixes cost a running stream, and a prefix from memory or disk.

    python scripts/bench_prefix_cache.py --model FILE.gguf [--rounds 5] [--json]

For each layout of the cells two engines take turns: one has answered 20 other prompts of 300 tokens, the other none;
the time of a decode step of one stream is compared. Then a prompt of 1,500 tokens is asked of an engine that never saw
it, of one that keeps it in host memory, and of one started anew over the first one's folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import tempfile
import time

from bench_engine import engine, run_one, tokens

from localllm import devices
from localllm.engine.frames import LoadSpec
from localllm.engine.process import EngineProcess

NUM_IDLE, IDLE_TOKENS = 20, 300
NUM_DECODED = 64
NUM_PREFIX = 1500
LAYOUTS = ("streams", "unified")


def spec_of(path: str, threads: int, layout: str, folder: str = "") -> LoadSpec:
    """Four slots of 4,096 tokens; host memory for all that is measured; with `folder` prefixes go to disk."""
    num_cells = 4 * 4096 if layout == "streams" else 2 * 4096
    disk_bytes = 1 << 30 if folder else 0
    return LoadSpec(
        (path,),
        4096,
        num_cells,
        4,
        512,
        threads,
        layout,  # type: ignore[arg-type]
        (),
        host_tokens=20_000,
        prefix_dir=folder,
        prefix_key="bench",
        prefix_disk_bytes=disk_bytes,
    )


async def step_ms(process: EngineProcess) -> float:
    """Milliseconds of one decode step of one stream with a prompt of 64 tokens."""
    _, end = await run_one(process, tokens(64), NUM_DECODED + 1)
    return end.timings.decode_s / NUM_DECODED * 1e3


async def first_token_s(process: EngineProcess, prompt: tuple[int, ...]) -> tuple[float, int]:
    """Seconds to the first token, and how many of the prompt's were cached."""
    begun = time.perf_counter()
    arrivals, end = await run_one(process, prompt, 1)
    return arrivals[0] - begun, end.usage.num_cached_tokens


async def measure_idle(path: str, threads: int, layout: str, rounds: int) -> dict[str, list[float]]:
    """Decode steps with and without idle prefixes, turn about."""
    spec = spec_of(path, threads, layout)
    found: dict[str, list[float]] = {"none": [], "idle": []}
    async with engine(spec) as fresh, engine(spec) as full:
        for _ in range(NUM_IDLE):
            await run_one(full, tokens(IDLE_TOKENS), 1)
        for _ in range(rounds):
            found["none"].append(await step_ms(fresh))
            found["idle"].append(await step_ms(full))
    return found


async def measure_tiers(path: str, threads: int, layout: str) -> dict[str, float]:
    """First tokens of one prompt: computed, from host memory once its slot was taken, from disk after a restart."""
    prompt, times = tokens(NUM_PREFIX), {}
    with tempfile.TemporaryDirectory() as folder:
        spec = spec_of(path, threads, layout, folder)
        async with engine(spec) as process:
            times["computed"], num_cached = await first_token_s(process, prompt)
            assert num_cached == 0
            for _ in range(8):
                await run_one(process, tokens(IDLE_TOKENS), 1)
            times["from host memory"], num_cached = await first_token_s(process, prompt)
            assert num_cached == NUM_PREFIX - 1, num_cached
        async with engine(spec) as process:
            times["from disk"], num_cached = await first_token_s(process, prompt)
            assert num_cached == NUM_PREFIX - 1, num_cached
    return times


async def measure(path: str, threads: int, rounds: int) -> dict[str, dict[str, float]]:
    """Everything, by layout: medians and ratios."""
    figures = {}
    for layout in LAYOUTS:
        steps = await measure_idle(path, threads, layout, rounds)
        tiers = [await measure_tiers(path, threads, layout) for _ in range(rounds)]
        found = {name: statistics.median(each[name] for each in tiers) for name in tiers[0]}
        figures[layout] = {
            "step, no idle prefixes, ms": statistics.median(steps["none"]),
            f"step, {NUM_IDLE} idle prefixes, ratio": statistics.median(
                idle / none for idle, none in zip(steps["idle"], steps["none"], strict=True)
            ),
            f"first token, {NUM_PREFIX} computed, s": found["computed"],
            "first token, from host memory, ratio": found["from host memory"] / found["computed"],
            "first token, from disk after a restart, ratio": found["from disk"] / found["computed"],
        }
    return figures


def main() -> None:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=devices.num_cores())
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures = asyncio.run(measure(args.model, args.threads, args.rounds))
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    print(f"{platform.machine()}, {args.threads} threads, median of {args.rounds}\n")
    print("| figure | " + " | ".join(LAYOUTS) + " |\n|---|---|---|")
    for name in figures[LAYOUTS[0]]:
        print(f"| {name} | " + " | ".join(f"{figures[layout][name]:.3f}" for layout in LAYOUTS) + " |")


if __name__ == "__main__":
    main()
