"""Times requests through a Backend for `localllm bench`, and makes a report of several rounds of them."""

from __future__ import annotations

import asyncio
import statistics
import time
from itertools import chain, cycle, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from localllm.api import CompletionRequest, Finished, Notice, Progress, SamplingParams
from localllm.closing import closing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from localllm.api import Backend, Event, LoadedModel

WORDS = "the quick brown fox jumps over a lazy dog while seven wizards watch from their tall and quiet tower"
_SHORT_PROMPT = 8
_BESIDE = 3  # streams that run while a prompt arrives


class Plan(NamedTuple):
    """What is measured: decode by each number of streams, tokens of a prompt and of an answer, and how often."""

    counts: list[int]
    num_prompt: int
    num_output: int
    rounds: int

    @property
    def tests(self) -> list[tuple[str, int]]:
        """Names as llama-bench gives them, each with its number of streams."""
        return [(f"pp{self.num_prompt}", 1), *((f"tg{self.num_output}", count) for count in self.counts)]


class _Measured(NamedTuple):
    """`prefill_s` till every stream had its first token; `decode_s` from the first token of any to the end of all."""

    prefill_s: float
    num_prefilled: int
    decode_s: float
    num_decoded: int


class Meter:
    """Runs requests of one model at once and times them. No two prompts begin alike, or one would find it cached."""

    def __init__(self, backend: Backend, model: str, vocabulary: Sequence[int], plan: Plan) -> None:
        self.model = model
        self._backend = backend
        self._vocabulary = vocabulary
        self._plan = plan
        self._num_prompts = 0
        self._samples: dict[tuple[str, int], list[float]] = {test: [] for test in plan.tests}
        self._first_s: list[float] = []
        self._busy_s: list[float] = []

    async def warm_up(self) -> None:
        """Touch what the first request pays for."""
        await self._measure(1, _SHORT_PROMPT, 2)

    async def round(self) -> None:
        """Measure everything once."""
        plan = self._plan
        (test, *others) = plan.tests
        prefill = await self._measure(1, plan.num_prompt, 1)
        self._samples[test].append(prefill.num_prefilled / prefill.prefill_s)
        self._first_s.append(prefill.prefill_s)
        for test in others:
            decode = await self._measure(test[1], _SHORT_PROMPT, plan.num_output)
            self._samples[test].append(decode.num_decoded / decode.decode_s)
        if max(plan.counts) > _BESIDE:
            self._busy_s.append(await self._first_beside_streams())

    def report(self) -> dict[str, Any]:
        """Medians of the rounds so far, with the samples they come from."""
        return {
            "tests": [
                {
                    "test": name,
                    "num_streams": count,
                    "tokens_per_s": statistics.median(samples),
                    "least": min(samples),
                    "most": max(samples),
                    "samples": samples,
                }
                for (name, count), samples in self._samples.items()
            ],
            "num_prompt_tokens": self._plan.num_prompt,
            "first_token_s": statistics.median(self._first_s),
            "first_token_busy_s": statistics.median(self._busy_s) if self._busy_s else None,
            "rounds": len(self._first_s),
        }

    async def _measure(self, count: int, num_prompt: int, num_output: int) -> _Measured:
        prompts = [self._prompt(num_prompt) for _ in range(count)]
        started = time.perf_counter()
        tasks = [asyncio.create_task(self._one(prompt, num_output)) for prompt in prompts]
        try:
            ends = await asyncio.gather(*tasks)
        finally:
            await _end(tasks)
        firsts = [first for first, _ in ends]
        usages = [finished.usage for _, finished in ends]
        return _Measured(
            prefill_s=max(firsts) - started,
            num_prefilled=sum(usage.num_prompt_tokens - usage.num_cached_tokens for usage in usages),
            decode_s=time.perf_counter() - min(firsts),
            num_decoded=sum(usage.num_output_tokens - 1 for usage in usages),
        )

    async def _first_beside_streams(self) -> float:
        """Seconds to the first token of a prompt that arrives while streams decode."""
        begun = [asyncio.Event() for _ in range(_BESIDE)]
        length = self._plan.num_output + self._plan.num_prompt
        tasks = [asyncio.create_task(self._one(self._prompt(_SHORT_PROMPT), length, event)) for event in begun]
        try:
            await asyncio.gather(*(event.wait() for event in begun))
            started = time.perf_counter()
            first, _ = await self._one(self._prompt(self._plan.num_prompt), 1)
            return first - started
        finally:
            await _end(tasks)

    async def _one(
        self, prompt: tuple[int, ...], num_output: int, begun: asyncio.Event | None = None
    ) -> tuple[float, Finished]:
        first = None
        async with closing(self._events(prompt, num_output)) as events:
            async for event in events:
                if first is None and not isinstance(event, Notice | Progress):
                    first = time.perf_counter()
                    if begun is not None:
                        begun.set()
                if isinstance(event, Finished):
                    return first or time.perf_counter(), event
        raise AssertionError("a stream ended without Finished")

    async def _events(self, prompt: tuple[int, ...], num_output: int) -> AsyncGenerator[Event, None]:
        sampling = SamplingParams(temperature=0.0, max_tokens=num_output, ignore_eos=True)
        # Greedy answers to such prompts repeat themselves: guessing ahead would look better than it is.
        request = CompletionRequest(self.model, prompt, sampling, speculate=False)
        async for event in self._backend.complete(request):
            yield event

    def _prompt(self, num: int) -> tuple[int, ...]:
        words = self._vocabulary
        high, low = divmod(self._num_prompts, len(words))
        self._num_prompts += 1
        return tuple(islice(chain((words[low], words[high % len(words)]), cycle(words)), num))


def describe_load(loaded: LoadedModel | None) -> dict[str, Any]:
    """What an engine took and how it was loaded. `peak_rss_bytes`: its process's, with the mapped file."""
    from localllm.machine import peak_memory_bytes

    if loaded is None:
        return {"load_s": None, "num_ctx": None, "num_slots": None, "device": None, "peak_rss_bytes": None,
                "bytes_by_device": {}}  # fmt: skip
    return {
        "load_s": loaded.load_s or None,
        "num_ctx": loaded.num_ctx,
        "num_slots": loaded.num_slots,
        "device": loaded.device,
        "peak_rss_bytes": peak_memory_bytes(loaded.pid),
        "bytes_by_device": loaded.bytes_by_device,
    }


async def _end(tasks: list[asyncio.Task[tuple[float, Finished]]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
