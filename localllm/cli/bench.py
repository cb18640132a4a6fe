"""`localllm bench`: how fast a model runs here, as its callers see it: through the same Backend as `run`."""

from __future__ import annotations

import time
from itertools import chain, cycle, islice
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from localllm.cli.options import Json, Offline, OptionalModel, Quiet, load_options, with_options
from localllm.cli.runtime import Runtime, runtime_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localllm.api import Backend, Finished
    from localllm.cli.output import Output
    from localllm.config import Settings

_WORDS = "the quick brown fox jumps over a lazy dog while seven wizards watch from their tall and quiet tower"
_SHORT_PROMPT = 8


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(with_options(bench))


def bench(
    ctx: typer.Context,
    model: OptionalModel = None,
    *,
    streams: Annotated[
        str, typer.Option("--streams", metavar="N,N...", help="How many requests at once, one run each.")
    ] = "1,4,8",
    prompt_tokens: Annotated[
        int, typer.Option("--prompt-tokens", "-p", min=1, metavar="N", help="Tokens of each prompt.")
    ] = 256,
    output_tokens: Annotated[
        int, typer.Option("--output-tokens", "-n", min=2, metavar="N", help="Tokens of each answer.")
    ] = 64,
    json: Json = False,
    quiet: Quiet = False,
    offline: Offline = False,
    loading: dict[str, Any],
) -> None:
    """Measure prefill and decode speed, in tokens a second over all streams together.

    Prefill: prompts that share nothing, one token of answer each. Decode: short prompts, timed from the first token to
    the last. With --json an object: model, load_s, runs (each: num_streams, num_prompt_tokens, num_output_tokens,
    prefill_s, prefill_tokens_per_s, decode_s, decode_tokens_per_s).
    """
    import asyncio

    from localllm.cli.output import Output

    runtime = runtime_of(ctx)
    settings = runtime.settings(**loading, offline=offline or None)
    counts = _counts(streams)
    output = Output(json=json, quiet=quiet)
    name = model or settings.default_model
    asyncio.run(_bench(runtime, settings, output, name, _Plan(counts, prompt_tokens, output_tokens)))


def _counts(streams: str) -> list[int]:
    from localllm.errors import UsageError

    try:
        counts = [int(word) for word in streams.split(",")]
    except ValueError:
        counts = []
    if not counts or any(not 1 <= count <= 256 for count in counts):
        raise UsageError(f"--streams cannot be {streams!r}", hint="numbers from 1 to 256, such as 1,4,8")
    return counts


async def _bench(runtime: Runtime, settings: Settings, output: Output, model: str, plan: _Plan) -> None:
    import msgspec

    from localllm.cli.progress import show_load

    options = load_options(settings)
    if options.num_slots is None:
        options = msgspec.structs.replace(options, num_slots=max(plan.counts))
    async with runtime.backend(settings, options) as backend:
        await show_load(backend, output, model)
        meter = _Meter(backend, model, await backend.tokenize(model, _WORDS))
        await meter.measure(1, _SHORT_PROMPT, 2)
        runs = []
        for count in plan.counts:
            output.note(f"{count} stream{'s' if count > 1 else ''} ...")
            runs.append(await _run(meter, count, plan.num_prompt, plan.num_output))
        loaded = await backend.list_loaded()
    load_s = loaded[0].load_s or None if len(loaded) == 1 else None
    _show(output, {"model": model, "load_s": load_s, "runs": runs})


async def _run(meter: _Meter, count: int, num_prompt: int, num_output: int) -> dict[str, Any]:
    """Prefill and decode of `count` streams."""
    prefill = await meter.measure(count, num_prompt, 1)
    decode = await meter.measure(count, _SHORT_PROMPT, num_output)
    return {
        "num_streams": count,
        "num_prompt_tokens": num_prompt,
        "num_output_tokens": num_output,
        "prefill_s": prefill.prefill_s,
        "prefill_tokens_per_s": prefill.num_prefilled / prefill.prefill_s,
        "decode_s": decode.decode_s,
        "decode_tokens_per_s": decode.num_decoded / decode.decode_s,
    }


class _Plan(NamedTuple):
    counts: list[int]
    num_prompt: int
    num_output: int


class _Measured(NamedTuple):
    """`prefill_s` till every stream had its first token; `decode_s` from the first token of any to the end of all."""

    prefill_s: float
    num_prefilled: int
    decode_s: float
    num_decoded: int


class _Meter:
    """Runs requests at once and times them. No two prompts begin alike, or the second would find the first's cached."""

    def __init__(self, backend: Backend, model: str, vocabulary: Sequence[int]) -> None:
        self._backend = backend
        self._model = model
        self._vocabulary = vocabulary
        self._num_prompts = 0

    async def measure(self, count: int, num_prompt: int, num_output: int) -> _Measured:
        """Run `count` requests of so many tokens and wait for all of them."""
        import asyncio

        prompts = [self._prompt(num_prompt) for _ in range(count)]
        started = time.perf_counter()
        tasks = [asyncio.create_task(self._one(prompt, num_output)) for prompt in prompts]
        try:
            ends = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        firsts = [first for first, _ in ends]
        usages = [finished.usage for _, finished in ends]
        return _Measured(
            prefill_s=max(firsts) - started,
            num_prefilled=sum(usage.num_prompt_tokens - usage.num_cached_tokens for usage in usages),
            decode_s=time.perf_counter() - min(firsts),
            num_decoded=sum(usage.num_output_tokens - 1 for usage in usages),
        )

    async def _one(self, prompt: tuple[int, ...], num_output: int) -> tuple[float, Finished]:
        from localllm.api import CompletionRequest, Finished, Notice, Progress, SamplingParams

        sampling = SamplingParams(temperature=0.0, max_tokens=num_output, ignore_eos=True)
        first = None
        async for event in self._backend.complete(CompletionRequest(self._model, prompt, sampling)):
            if first is None and not isinstance(event, Notice | Progress):
                first = time.perf_counter()
            if isinstance(event, Finished):
                return first or time.perf_counter(), event
        raise AssertionError("a stream ended without Finished")

    def _prompt(self, num: int) -> tuple[int, ...]:
        words = self._vocabulary
        high, low = divmod(self._num_prompts, len(words))
        self._num_prompts += 1
        return tuple(islice(chain((words[low], words[high % len(words)]), cycle(words)), num))


def _show(output: Output, report: dict[str, Any]) -> None:
    from localllm.cli.table import Column

    if output.json:
        output.document(report)
        return
    columns = (Column("STREAMS", True, 9), Column("PREFILL tok/s", True, 8), Column("DECODE tok/s", True, 7))
    rows = [
        (str(run["num_streams"]), f"{run['prefill_tokens_per_s']:.0f}", f"{run['decode_tokens_per_s']:.0f}")
        for run in report["runs"]
    ]
    output.table(columns, rows)
