"""Measure speculation: prompt lookup, or a draft model where one is given, on against off.

    python scripts/bench_speculation.py --model FILE.gguf [--draft-model FILE.gguf] [--quants Q4_0,Q8_0] [--rounds 5]

The model is requantized to each of `--quants` by llama.cpp itself: the quant decides what a draft costs to check. Each
workload runs on and off turn about in one engine; printed are medians of the rates after the first token, their ratio,
how many drafts were made and right, and how often both sides said the same. No two rounds say the same, so that none
can copy from another.

* edit: continues a listing that repeats with small edits, greedily, as when a file is written again with a change.
* prose: draws freely (temperature 1) from an opening of prose. Nothing to copy: speculation can only cost.
* edit_4, prose_4: four of these at once.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import platform
import statistics
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from localllm import devices
from localllm.api import CompletionRequest, Finished, SamplingParams, TextDelta
from localllm.engine.frames import LoadSpec
from localllm.engine.process import EngineProcess

FILE = '''class Account:
    """Money of one customer."""

    def __init__(self, owner, balance=0):
        self.owner = owner
        self.balance = balance
        self.history = []

    def deposit(self, amount):
        if amount <= 0:
            raise ValueError("amount must be positive")
        self.balance += amount
        self.history.append(("deposit", amount))

    def withdraw(self, amount):
        if amount <= 0:
            raise ValueError("amount must be positive")
        if amount > self.balance:
            raise ValueError("not enough money")
        self.balance -= amount
        self.history.append(("withdraw", amount))

    def report(self):
        for kind, amount in self.history:
            print(self.owner, kind, amount)
        print(self.owner, "has", self.balance)
'''
NOUNS = ("Account", "Wallet", "Purse", "Safe", "Vault", "Chest", "Fund", "Budget", "Ledger", "Box", "Jar", "Bank")
OWNERS = ("owner", "holder", "keeper", "client", "person", "member", "user", "payer", "tenant", "patron", "guest")
VERBS = ("deposit", "put_in", "insert", "add", "store", "save", "pay_in", "give", "credit", "load", "fill")
PROSE = (
    "The ferry left the island before dawn, and nobody on the quay could say who had been aboard. Marta had seen",
    "What surprised the committee most was not the cost of the bridge but the letters that arrived about it, which",
    "In the third year of the drought the village council met under the plane tree and argued until nightfall about",
    "My grandfather kept bees, and because he was deaf he claimed to hear them through the soles of his feet, which",
)


def edit_prompt(number: int) -> str:
    """A listing, twice more with an edit each, and the head of the next. Every number gives other words."""
    noun, owner, verb = (names[number % len(names)] for names in (NOUNS, OWNERS, VERBS))
    file = FILE.replace("Account", noun).replace("owner", owner).replace("deposit", verb)
    versions = [
        file,
        file.replace(verb, verb + "_now"),
        file.replace(verb, verb + "_now").replace(owner, "the_" + owner),
    ]
    parts = [f"# version {n}\n{text}" for n, text in enumerate(versions, 1)]
    head = "\n".join(versions[-1].splitlines()[:6])
    return "\n".join(parts) + f"\n# version 4\n{head}\n"


@dataclass
class Side:
    """What one side of a workload brought."""

    rates: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    num_drafted: int = 0
    num_accepted: int = 0


@asynccontextmanager
async def engine(spec: LoadSpec) -> AsyncIterator[EngineProcess]:
    """A loaded engine that has computed something once."""
    process = EngineProcess(spec)
    try:
        async for _ in process.start():
            pass
        yield process
    finally:
        await process.close()


async def run_one(process: EngineProcess, request: CompletionRequest) -> tuple[str, Finished]:
    """Text and end."""
    text = ""
    async for event in process.complete(request):
        if isinstance(event, TextDelta):
            text += event.text
        if isinstance(event, Finished):
            return text, event
    raise AssertionError("a stream ends in Finished")


@dataclass(frozen=True)
class Workload:
    """`num` requests at once: greedy edits or drawn prose."""

    is_edit: bool
    num: int
    num_tokens: int

    def requests(self, number: int, on: bool) -> list[CompletionRequest]:
        """Those of round `number`."""
        made = []
        for index in range(self.num * number, self.num * (number + 1)):
            prompt = edit_prompt(index) if self.is_edit else PROSE[index % len(PROSE)]
            sampling = msgspec.structs.replace(GREEDY if self.is_edit else FREE, seed=index, max_tokens=self.num_tokens)
            made.append(CompletionRequest("bench", prompt, sampling, speculate=on))
        return made


GREEDY = SamplingParams(temperature=0, ignore_eos=True)
FREE = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, ignore_eos=True)
WORKLOADS = {
    "edit": Workload(True, 1, 256),
    "prose": Workload(False, 1, 256),
    "edit_4": Workload(True, 4, 192),
    "prose_4": Workload(False, 4, 192),
}


async def measure(process: EngineProcess, requests: list[CompletionRequest], side: Side) -> None:
    """Run requests at once."""
    results = await asyncio.gather(*(run_one(process, request) for request in requests))
    seconds = max(end.timings.decode_s for _, end in results)
    num_tokens = sum(end.usage.num_output_tokens - 1 for _, end in results)
    side.rates.append(num_tokens / seconds)
    side.texts.append("\0".join(text for text, _ in results))
    side.num_drafted += sum(end.usage.num_drafted_tokens for _, end in results)
    side.num_accepted += sum(end.usage.num_accepted_tokens for _, end in results)


async def measure_model(path: str, args: argparse.Namespace) -> None:
    """All workloads on one file."""
    spec = LoadSpec(
        (path,), 2048, 4 * 2048, 4, 512, args.threads, args.kv_layout, (), host_tokens=0, max_drafts=args.max_drafts
    )
    if args.draft_model:
        spec = msgspec.structs.replace(spec, draft_paths=(args.draft_model,))
    async with engine(spec) as process:
        for name in args.workloads.split(","):
            on, off = Side(), Side()
            for number in range(args.rounds + 1):
                # The first round warms up: an engine that has run for a while knows what its steps cost.
                sides = (Side(), Side()) if number == 0 else (off, on)
                for speculate in (True, False) if number % 2 else (False, True):
                    await measure(process, WORKLOADS[name].requests(number, speculate), sides[speculate])
            print_row(Path(path).stem, name, on, off)


def print_row(file: str, name: str, on: Side, off: Side) -> None:
    """One line of the table."""
    ratio = statistics.median(a / b for a, b in zip(on.rates, off.rates, strict=True))
    pairs = list(zip(on.texts, off.texts, strict=True))
    same = sum(a == b for a, b in pairs)
    rates = f"{statistics.median(off.rates):.1f} | {statistics.median(on.rates):.1f} | {ratio:.3f}"
    rounds = len(on.rates)
    print(f"| {file} | {name} | {rates} | {on.num_drafted // rounds} | {on.num_accepted // rounds} | "
          f"{same} of {len(pairs)} |", flush=True)  # fmt: skip


def requantize(source: str, quant: str, folder: str) -> str:
    """The model in another quant, made by llama.cpp."""
    from localllm.binding import C, set_log

    set_log(None)
    C.llama_backend_init()
    params = C.llama_model_quantize_default_params()
    params.ftype = getattr(C, f"LLAMA_FTYPE_MOSTLY_{quant}")
    params.allow_requantize = True
    params.nthread = devices.num_cores()
    target = str(Path(folder) / f"{quant}.gguf")
    if C.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)) != 0:
        raise SystemExit(f"llama.cpp could not make {quant} of {source}")
    return target


def main() -> None:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--draft-model", help="a GGUF file of the same vocabulary")
    parser.add_argument("--quants", default="Q4_0,Q8_0", help="empty: the file as it is")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=devices.num_cores())
    parser.add_argument("--max-drafts", type=int, default=15)
    parser.add_argument("--kv-layout", default="streams", choices=["streams", "unified"])
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    args = parser.parse_args()
    print(f"{platform.machine()}, {args.threads} threads, {Path(args.model).name}, {args.kv_layout}, "
          f"up to {args.max_drafts} drafts, median of {args.rounds}\n")  # fmt: skip
    print("| file | workload | off (tok/s) | on (tok/s) | ratio | drafted | right | same text |")
    print("|---" * 8 + "|")
    with tempfile.TemporaryDirectory() as folder:
        quants = [quant for quant in args.quants.split(",") if quant]
        for path in [requantize(args.model, quant, folder) for quant in quants] or [args.model]:
            asyncio.run(measure_model(path, args))


if __name__ == "__main__":
    main()
