"""Measures what the scheduler itself costs: microseconds of one schedule() and update(), and of one prefix lookup.

Nothing is computed between the two, so the figures are Python's share of a step and nothing else.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time

from localllm.engine.batch import Chunk, Sampled
from localllm.engine.kv_cache import KVCache, Layout, Placement
from localllm.engine.scheduler import Scheduler
from localllm.engine.sequence import Sequence
from localllm.engine.step_cost import StepCost

NUM_CTX = 2048
NUM_PROMPT = 100
NUM_BATCH = 2048
LAYOUTS: tuple[Layout, ...] = ("unified", "streams")


def main() -> None:
    """Print one line for each layout and number of sequences, then the cost of lookups."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300, help="steps to time (default: 300)")
    steps = parser.parse_args().steps
    for layout in LAYOUTS:
        for num_sequences in (1, 16, 64, 256):
            median, worst = decode_us(layout, num_sequences, steps)
            print(f"decode {layout:8} {num_sequences:4} sequences: {median:7.1f} us a step (99 %: {worst:7.1f})")
    for num_prefixes in (10, 100, 1000):
        print(f"place  {num_prefixes:5} cached prefixes of {NUM_PROMPT * 10} tokens: {place_us(num_prefixes):6.1f} us")


def decode_us(layout: Layout, num_sequences: int, num_steps: int) -> tuple[float, float]:
    """Median and 99th percentile of a step in which all sequences decode."""
    rng = random.Random(1)
    cache = KVCache(num_sequences, NUM_CTX * num_sequences, layout, host_tokens=100_000)
    scheduler = Scheduler(cache, StepCost(NUM_BATCH, 150_000), num_ctx=NUM_CTX, num_batch=NUM_BATCH)
    for number in range(num_sequences):
        scheduler.add(Sequence(number, [rng.randrange(50_000) for _ in range(NUM_PROMPT)], None, number))
    num_decoding = 0
    while num_decoding < num_sequences:
        num_decoding = sum(len(chunk.tokens) == 1 for chunk in _step(scheduler)[1])
    gc.collect()
    times = sorted(_step(scheduler)[0] for _ in range(num_steps))
    return statistics.median(times), times[int(len(times) * 0.99)]


def _step(scheduler: Scheduler) -> tuple[float, list[Chunk]]:
    began = time.perf_counter()
    batch = scheduler.schedule()
    between = time.perf_counter()
    sampled = [Sampled((7,)) for chunk in batch.chunks if chunk.samples]
    resumed = time.perf_counter()
    scheduler.update(batch, sampled, 1000)
    return (time.perf_counter() - resumed + between - began) * 1e6, batch.chunks


def place_us(num_prefixes: int) -> float:
    """Median time to place a sequence that shares its first half with every cached prefix."""
    rng = random.Random(1)
    length = NUM_PROMPT * 10
    system = [rng.randrange(50_000) for _ in range(length // 2)]
    cache = KVCache(16, NUM_CTX * 16, "unified", host_tokens=num_prefixes * length)
    times: list[float] = []
    for _ in range(num_prefixes + 100):
        tokens = system + [rng.randrange(50_000) for _ in range(length - len(system))]
        began = time.perf_counter()
        placement = cache.place(tokens, [])
        times.append((time.perf_counter() - began) * 1e6)
        assert isinstance(placement, Placement)
        cache.release(placement.slot, tokens, [])
    return statistics.median(times[num_prefixes:])


if __name__ == "__main__":
    main()
