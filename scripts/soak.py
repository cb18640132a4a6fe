"""Run thousands of short requests through one engine child and watch its memory (Linux: RssAnon + VmSwap).

    python scripts/soak.py --model FILE.gguf [--requests 10000] [--clients 8] [--host-tokens 1024] [--json]

The mix: short prompts, a shared prefix, growing conversations, long prompts, ends by stop string, requests cancelled
in their prompt and in their answer, and requests that are refused. Prefixes kept in host memory are bounded by
`--host-tokens`, so few (24 MB of this model) that the first 200 requests fill them: what grows after these is a leak.
Prints a line every 500 requests. Exit status: 0 growth is within `--limit-mib`, 1 it is not or a request ended
wrongly, 2 wrong usage or no /proc, 3 not done within `--run-s`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from localllm.api import CompletionRequest, Finished, SamplingParams, TextDelta
from localllm.closing import closing
from localllm.engine.frames import LoadSpec
from localllm.engine.process import EngineProcess
from localllm.errors import ContextLengthError, InvalidRequestError, LocalLLMError

SETTLED, EVERY = 200, 500
NUM_CTX, NUM_SLOTS, NUM_BATCH = 1024, 8, 256
FIRST_ID, LAST_ID = 1000, 40_000
KINDS = {
    "short": 50,
    "shared prefix": 20,
    "conversation": 10,
    "stop string": 5,
    "cancelled in the answer": 6,
    "cancelled in the prompt": 3,
    "long prompt": 1,
    "too long": 3,
    "refused": 2,
}


@dataclass(slots=True)
class Soak:
    """What a run saw. `memory` holds (requests done, bytes)."""

    memory: list[tuple[int, int]] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def growth_bytes(self) -> int:
        """Of the last reading over the first settled one."""
        return self.memory[-1][1] - self.memory[0][1]


def memory_bytes(pid: int) -> int:
    """RssAnon and VmSwap of a process together: what it holds that no file backs. Raises OSError without /proc."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "VmSwap"))


class Mix:
    """Makes requests of all kinds from a seed and runs them; each must end as its kind has to."""

    def __init__(self, engine: EngineProcess, seed: int) -> None:
        self._engine = engine
        self._random = random.Random(seed)
        self._shared = self._tokens(120)
        self._conversation = self._tokens(16)

    def _tokens(self, count: int) -> tuple[int, ...]:
        return tuple(self._random.randrange(FIRST_ID, LAST_ID) for _ in range(count))

    async def one(self) -> tuple[str, str]:
        """Run one request; return its kind and how it ended."""
        kind = self._random.choices(list(KINDS), list(KINDS.values()))[0]
        sampling = SamplingParams(temperature=0, ignore_eos=True, max_tokens=self._random.randint(1, 3))
        prompt, cancel_after = self._tokens(self._random.randint(4, 12)), None
        match kind:
            case "shared prefix":
                prompt = self._shared + prompt
            case "conversation":
                if len(self._conversation) > 200:
                    self._conversation = self._tokens(16)
                prompt = self._conversation = self._conversation + prompt
            case "stop string":
                sampling = SamplingParams(temperature=0.8, seed=1, max_tokens=4, stop=("e", "a"))
            case "cancelled in the answer":
                sampling, cancel_after = SamplingParams(temperature=0, ignore_eos=True, max_tokens=400), 2
            case "cancelled in the prompt":
                prompt, cancel_after = self._tokens(600), 0
            case "long prompt":
                prompt = self._tokens(400)
            case "too long":
                prompt = self._tokens(NUM_CTX + 1)
            case "refused":
                prompt = (*prompt, 10**9)
        return kind, await self._run(prompt, sampling, cancel_after)

    async def _run(self, prompt: tuple[int, ...], sampling: SamplingParams, cancel_after: int | None) -> str:
        events = self._engine.complete(CompletionRequest("soak", prompt, sampling))
        try:
            async with closing(events) as stream:
                if cancel_after == 0:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(anext(stream), 0.01)
                    return "cancelled"
                num_texts = 0
                async for event in stream:
                    num_texts += isinstance(event, TextDelta)
                    if cancel_after is not None and num_texts >= cancel_after:
                        return "cancelled"
                    if isinstance(event, Finished):
                        return event.reason
        except ContextLengthError:
            return "too long"
        except InvalidRequestError:
            return "refused"
        except LocalLLMError as error:
            return f"{type(error).__name__}: {error}"
        return "no end"


EXPECTED: dict[str, tuple[str, ...]] = {
    "stop string": ("stop", "length"),
    "cancelled in the answer": ("cancelled",),
    "cancelled in the prompt": ("cancelled",),
    "too long": ("too long",),
    "refused": ("refused",),
}


async def soak(
    path: str, *, num_requests: int, num_clients: int = 8, host_tokens: int = 1024, seed: int = 1, say: bool = False
) -> Soak:
    """Run the mix through one child, `num_clients` at a time."""
    spec = LoadSpec(
        (path,), NUM_CTX, NUM_SLOTS * NUM_CTX, NUM_SLOTS, NUM_BATCH, 2, "streams", (), host_tokens=host_tokens
    )
    engine = EngineProcess(spec)
    result, begun = Soak(), time.monotonic()
    try:
        async for _ in engine.start():
            pass
        mix, left = Mix(engine, seed), iter(range(num_requests))
        num_done = 0

        async def client() -> None:
            nonlocal num_done
            for _ in left:
                kind, end = await mix.one()
                result.ends[f"{kind}: {end}"] += 1
                if end not in EXPECTED.get(kind, ("length",)):
                    result.wrong.append(f"{kind}: {end}")
                num_done += 1
                if num_done in (SETTLED, num_requests) or num_done % EVERY == 0:
                    result.memory.append((num_done, memory_bytes(engine.pid)))
                    result.seconds = time.monotonic() - begun
                    if say:
                        _say(result)

        await asyncio.gather(*(client() for _ in range(num_clients)))
    finally:
        await engine.close()
    return result


def _say(result: Soak) -> None:
    done, held = result.memory[-1]
    growth = result.growth_bytes / 2**20
    line = f"{done:6d} requests  {held / 2**20:8.1f} MiB  {growth:+7.1f} MiB since {SETTLED}  {result.seconds:6.0f} s"
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Soak, print what came of it, and say by the status whether memory grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8, help="requests at a time")
    parser.add_argument("--host-tokens", type=int, default=1024, help="tokens of prefixes kept in host memory")
    parser.add_argument("--limit-mib", type=float, default=32.0, help="the most it may grow after 200 requests")
    parser.add_argument("--run-s", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.requests <= SETTLED:
        parser.error(f"--requests is more than {SETTLED}")
    if not Path("/proc/self/status").exists():
        parser.error("memory is read from /proc, which this system does not have")
    try:
        result = asyncio.run(asyncio.wait_for(_soak(args), args.run_s))
    except TimeoutError:
        print(f"error: not done within {args.run_s:g} s", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    growth_mib = result.growth_bytes / 2**20
    facts = {"growth_mib": growth_mib, "memory": result.memory, "ends": result.ends, "wrong": result.wrong[:20]}
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        print(f"growth after {SETTLED} requests: {growth_mib:.1f} MiB in {args.requests} requests")
        print("\n".join(f"{count:6d}  {end}" for end, count in sorted(result.ends.items())))
    return 0 if growth_mib <= args.limit_mib and not result.wrong else 1


async def _soak(args: argparse.Namespace) -> Soak:
    return await soak(
        args.model,
        num_requests=args.requests,
        num_clients=args.clients,
        host_tokens=args.host_tokens,
        seed=args.seed,
        say=True,
    )


if __name__ == "__main__":
    sys.exit(main())
