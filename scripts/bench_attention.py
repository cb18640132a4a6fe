"""Measure what a prompt's chunk costs beside decoding streams: by chunk size, depth, flash attention and cell layout.

    python scripts/bench_attention.py --model FILE.gguf [--rounds 5] [--streams 1,3,8] [--depths 300,1500]

Steps of the runner itself, without scheduler and pipe. The variants (flash attention on, off) take turns in each round;
medians are printed. A cell is the time of the step in milliseconds and, in brackets, the prompt tokens a second that
the chunk brings beyond the step without it. Decoding streams stand at a depth of 300 tokens, the prompt at `--depths`.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

from localllm import devices
from localllm.api import SamplingParams
from localllm.binding import set_log
from localllm.engine.batch import Batch, Chunk, Copy, Op, Trim
from localllm.engine.frames import LoadSpec
from localllm.engine.llama import LlamaModel, LlamaRunner

CHUNKS = (16, 32, 64, 65, 96, 129, 257)
DECODE_DEPTH = 300
GREEDY = SamplingParams(temperature=0.0)


class Variant:
    """One context: `num_streams` slots decode, the one behind them takes the prompt."""

    def __init__(self, model: LlamaModel, spec: LoadSpec) -> None:
        self._runner = LlamaRunner(model, spec)
        self._positions = [0] * spec.num_slots
        for slot in range(spec.num_slots):
            self._runner.open(slot, GREEDY, [1])

    def fill(self, slot: int, depth: int) -> None:
        """Give a slot exactly `depth` tokens."""
        self.cut(slot, min(depth, self._positions[slot]))
        while self._positions[slot] < depth:
            self.step([(slot, min(512, depth - self._positions[slot]))], samples=False)

    def copy(self, source: int, target: int) -> None:
        """Make a slot the equal of another."""
        ops: list[Op] = [Trim(target, 0), Copy(source, target, self._positions[source])]
        self._runner.run(Batch(ops, []))
        self._positions[target] = self._positions[source]

    def cut(self, slot: int, depth: int) -> None:
        """Take a slot back to `depth` tokens."""
        self._runner.run(Batch([Trim(slot, depth)], []))
        self._positions[slot] = depth

    def step(self, shares: list[tuple[int, int]], *, samples: bool = True) -> float:
        """Compute so many new tokens for each slot; returns seconds."""
        chunks = [
            Chunk(slot, slot, self._positions[slot], random_tokens(count), samples and count == 1)
            for slot, count in sorted(shares)
        ]
        began = time.perf_counter()
        self._runner.run(Batch([], chunks))
        seconds = time.perf_counter() - began
        for slot, count in shares:
            self._positions[slot] += count
        return seconds

    def close(self) -> None:
        """Free the context."""
        self._runner.close()


def random_tokens(count: int) -> list[int]:
    """Token ids that no prefix has."""
    return [random.randrange(1000, 40_000) for _ in range(count)]


def measure(variants: dict[str, Variant], num_streams: int, depth: int, rounds: int) -> dict[str, dict[int, float]]:
    """Median step seconds for each variant and chunk size; 0 is the step without a prompt."""
    times: dict[str, dict[int, list[float]]] = {name: {size: [] for size in (0, *CHUNKS)} for name in variants}
    decoding = [(slot, 1) for slot in range(num_streams)]
    for variant in variants.values():
        variant.fill(0, DECODE_DEPTH)
        for slot in range(1, num_streams):
            variant.copy(0, slot)
        variant.fill(num_streams, depth)
        variant.step(decoding)
    for _ in range(rounds):
        for size in (0, *CHUNKS):
            for name, variant in variants.items():
                prompt = [(num_streams, size)] if size else []
                times[name][size].append(variant.step(decoding + prompt))
                variant.cut(num_streams, depth)
    return {name: {size: statistics.median(found) for size, found in sizes.items()} for name, sizes in times.items()}


def print_rows(found: dict[str, dict[int, float]], num_streams: int, depth: int) -> None:
    """One table row for each variant."""
    for name, sizes in found.items():
        alone = sizes[0]
        cells = [f"{sizes[size] * 1e3:.0f} ({size / max(1e-6, sizes[size] - alone):.0f})" for size in CHUNKS]
        print(f"| {depth} | {num_streams} | {name} | {alone * 1e3:.1f} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=devices.num_cores())
    parser.add_argument("--streams", default="1,3,8")
    parser.add_argument("--depths", default="300,1500")
    parser.add_argument("--layout", choices=("streams", "unified"), default="streams")
    args = parser.parse_args()
    set_log(None)
    counts = [int(word) for word in args.streams.split(",")]
    depths = [int(word) for word in args.depths.split(",")]
    room = max(depths) + 1024
    num_slots = max(counts) + 1
    spec = LoadSpec((args.model,), room, room * num_slots, num_slots, 512, args.threads, args.layout)
    model = LlamaModel(spec, lambda _fraction: True)
    print("| depth | streams | flash | decode ms | " + " | ".join(f"+{size}" for size in CHUNKS) + " |")
    print("|---" * (4 + len(CHUNKS)) + "|")
    for num_streams in counts:
        room_here = num_streams + 1
        specs = {
            name: LoadSpec(
                (args.model,), room, room * room_here, room_here, 512, args.threads, args.layout, flash_attn=flash
            )
            for name, flash in (("on", True), ("off", False))
        }
        variants = {name: Variant(model, spec) for name, spec in specs.items()}
        for depth in depths:
            print_rows(measure(variants, num_streams, depth, args.rounds), num_streams, depth)
        for variant in variants.values():
            variant.close()
    model.close()


if __name__ == "__main__":
    main()
