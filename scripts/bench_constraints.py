"""Measure what a constraint costs: schema-bound decode against free decode of the same length, and the masks alone.

    python scripts/bench_constraints.py --model FILE.gguf [--rounds 5] [--tokens 96] [--json]

Three sides take turns in one engine, each with the same prompt and the same number of tokens: free; bound to a long
string, where nothing is forced and nearly every token allowed; bound to a list of records, where names are forced.
Their schemas make answers longer than what is measured. Masks are timed at every token of such records, without a
model.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from localllm import devices
from localllm.api import ChatRequest, Finished, JsonSchema, Message, SamplingParams
from localllm.engine.frames import LoadSpec
from localllm.engine.process import EngineProcess

_PERSON = {
    "type": "object",
    "properties": {
        "first_name": {"type": "string", "maxLength": 12},
        "last_name": {"type": "string", "maxLength": 12},
        "age_in_years": {"type": "integer", "minimum": 0, "maximum": 150},
        "occupation": {"type": "string", "maxLength": 20},
        "favourite_colour": {"enum": ["red", "green", "blue"]},
    },
    "required": ["first_name", "last_name", "age_in_years", "occupation", "favourite_colour"],
    "additionalProperties": False,
}
RECORDS = {"type": "array", "items": _PERSON, "minItems": 40, "maxItems": 50}
STRING = {"type": "string", "minLength": 20_000}
SAMPLERS: dict[str, dict[str, Any]] = {"greedy": {"temperature": 0.0}, "sampled": {"temperature": 0.8, "seed": 1}}
SIDES: dict[str, Any] = {"free": None, "unforced": STRING, "forced": RECORDS}
ASK = "Make up a long list of very different people, as JSON: first name, last name, age, occupation, favourite colour."


@asynccontextmanager
async def engine(path: str, threads: int) -> AsyncIterator[EngineProcess]:
    """A loaded engine."""
    spec = LoadSpec(
        paths=(path,),
        num_ctx=2048,
        num_cells=2048 * 8,
        num_slots=8,
        num_batch=512,
        num_threads=threads,
        kv_layout="streams",
    )
    process = EngineProcess(spec)
    try:
        async for _ in process.start():
            pass
        yield process
    finally:
        await process.close()


async def ask(process: EngineProcess, schema: Any, sampling: SamplingParams) -> Finished:
    """One answer's end."""
    constraint = None if schema is None else JsonSchema(schema)
    request = ChatRequest("bench", (Message("user", ASK),), sampling, constraint=constraint)
    async for event in process.chat(request):
        if isinstance(event, Finished):
            return event
    raise AssertionError("a stream ends in Finished")


async def rate(process: EngineProcess, schema: Any, num_streams: int, **sampling: Any) -> tuple[float, int]:
    """Tokens per second of one stream among `num_streams` alike, and how many of its tokens were forced."""
    params = SamplingParams(**sampling)
    ended = await asyncio.gather(*(ask(process, schema, params) for _ in range(num_streams)))
    rates = [(end.usage.num_output_tokens - 1) / end.timings.decode_s for end in ended]
    return statistics.mean(rates), ended[0].usage.num_forced_tokens


async def measure(path: str, threads: int, rounds: int, num_tokens: int) -> dict[str, float]:
    """Medians over the rounds, and the ratio of each bound side to the free one."""
    found: dict[str, list[float]] = {}
    num_forced = 0
    async with engine(path, threads) as process:
        for number, (sampler, chosen), streams, (side, schema) in itertools.product(
            range(rounds + 1), SAMPLERS.items(), (1, 4), SIDES.items()
        ):
            speed, forced = await rate(
                process, schema, streams, **chosen, max_tokens=num_tokens, ignore_eos=schema is None
            )
            if number:  # the first round warms up
                found.setdefault(f"{sampler}_{streams}_{side}", []).append(speed)
                num_forced = max(num_forced, forced)
    medians = {name: statistics.median(values) for name, values in found.items()}
    for sampler, streams, side in itertools.product(SAMPLERS, (1, 4), ("unforced", "forced")):
        ratios = [
            bound / free
            for bound, free in zip(
                found[f"{sampler}_{streams}_{side}"], found[f"{sampler}_{streams}_free"], strict=True
            )
        ]
        medians[f"{sampler}_{streams}_{side}_ratio"] = statistics.median(ratios)
    return {**medians, "forced_share": num_forced / num_tokens}


def measure_masks(path: str) -> dict[str, float]:
    """Microseconds that masks and compiling take, on the vocabulary alone."""
    from localllm.binding import C, set_log
    from localllm.engine.constraints import Constraints
    from localllm.engine.vocab import Vocab
    from localllm.text.tokens import Encoder

    set_log(None)
    C.llama_backend_init()
    params = C.llama_model_default_params()
    params.vocab_only = True
    vocab = Vocab(C.llama_model_load_from_file(path.encode(), params))
    encoder = Encoder(vocab, "")
    constraints = Constraints(vocab, lambda segments: encoder.encode(segments, add_bos=False))
    began = time.perf_counter()
    constraints.compile(JsonSchema(True))
    vocabulary_s = time.perf_counter() - began
    compiles, masks = [], []
    person = {
        "first_name": "Ann",
        "last_name": "O'Brien",
        "age_in_years": 31,
        "occupation": "a teacher",
        "favourite_colour": "blue",
    }
    text = json.dumps([person] * 40)
    for _ in range(5):
        began = time.perf_counter()
        matcher = constraints.compile(JsonSchema(RECORDS)).begin()
        compiles.append(time.perf_counter() - began)
        for token in vocab.tokenize(text):
            began = time.perf_counter()
            matcher.prepare(())
            masks.append(time.perf_counter() - began)
            matcher.advance(token)
    masks.sort()
    return {
        "vocabulary_ms": vocabulary_s * 1e3,
        "compile_us": statistics.median(compiles) * 1e6,
        "mask_us_median": masks[len(masks) // 2] * 1e6,
        "mask_us_p99": masks[len(masks) * 99 // 100] * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="FILE.gguf")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96, help="tokens of each answer")
    parser.add_argument("--threads", type=int, default=0, help="0: one for each core")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    threads = args.threads or devices.num_cores()
    found = {
        **measure_masks(args.model),
        **asyncio.run(measure(args.model, threads, args.rounds, args.tokens)),
    }
    if args.json:
        json.dump(found, sys.stdout, indent=2)
        print()
        return
    print("| figure | median |\n|---|---|")
    for name, value in found.items():
        print(f"| {name} | {value:.2f} |")


if __name__ == "__main__":
    main()
