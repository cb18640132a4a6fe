"""Measures engines for `localllm tune`: a child for each set of choices, the same small work for each, and its times.

Owns the children while it measures; what to try and what to keep is `tuning`'s, the file is `tuned`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import statistics
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Self

import msgspec

from localllm import devices
from localllm.api import (
    CompletionRequest,
    Finished,
    LoadOptions,
    Notice,
    Progress,
    SamplingParams,
    TextDelta,
    TokenLogprob,
)
from localllm.closing import closing
from localllm.config import Settings
from localllm.engine.frames import LoadSpec
from localllm.engine.process import EngineProcess
from localllm.errors import LocalLLMError
from localllm.loading import plan_load
from localllm.machine import num_logical_cores, this_machine
from localllm.pool import PlannedLoad
from localllm.store.identity import weights_id
from localllm.store.manifest import Manifest, utc_now
from localllm.tuned import GROUPS, Tuning, device_of
from localllm.tuning import Base, Choices, Clock, Figures, candidates, search

_GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)
_NUM_STREAMS = 4
_SHORT = 16
_LOSS_TOKENS = 32
_LOSS_TEXT = (
    "Every morning the ferry carries the mail across the bay. Today a storm is coming up from the south, and the "
    "captain asks the two passengers on deck whether they would rather wait in the harbour or leave at once. They"
)

# A search is some 50 measurements of one engine.
_MEASUREMENTS = 50
_END_S = 0.5  # for ending the children
_BESIDE = 2.2  # two engines are held at once where so many times one's memory is free


async def tune(
    manifest: Manifest,
    files: list[Path],
    options: LoadOptions,
    settings: Settings,
    *,
    seconds: float,
    allow_lossy: bool = False,
    tell: Callable[[str], None] = lambda _line: None,
) -> Tuning:
    """Find what is fastest for a model here within `seconds`; `tell` hears each step. Nothing is written.

    What `options` set stays as it is. Raises LocalLLMError when the time does not suffice for the defaults alone.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    machine = await asyncio.to_thread(this_machine)
    # Nothing tuned before, and no prefixes of random tokens on the disk.
    options = msgspec.structs.replace(options, tuned=False, prefix_disk_bytes=0)
    planner = _Planner(manifest, files, options, settings)
    spec = planner.default.spec
    has_room = devices.available_memory() >= _BESIDE * planner.default.needed_bytes
    async with Bench(planner, capacity=2 if has_room and not machine.devices else 1) as bench:
        try:
            async with asyncio.timeout(seconds):
                figures = await bench.measure(Choices(), Sizes().prompt)
            bench.has_twins = loop.time() - began < seconds / 10
            bench.sizes = bench.sizes.for_seconds(max(0.5, seconds / _MEASUREMENTS), figures, spec.num_ctx)
            outcome = await search(
                candidates(_base(spec, options)),
                bench,
                Clock(loop.time, began + seconds - _END_S),
                prompt_tokens=bench.sizes.prompt,
                longest=spec.num_ctx - bench.sizes.answer - 1,
                allow_lossy=allow_lossy,
                tell=tell,
            )
        except TimeoutError:
            hint = "give it more with --seconds"
            raise LocalLLMError(f"{seconds:g} s do not suffice to measure {manifest.name} once", hint=hint) from None
    return Tuning(
        model=weights_id(manifest, files),
        name=manifest.name,
        machine=machine,
        device=device_of(options),
        num_ctx=spec.num_ctx,
        num_slots=spec.num_slots,
        outcome=msgspec.structs.replace(outcome, seconds=loop.time() - began),
        created=utc_now(),
    )


class _Planner:
    """LoadSpecs of one model with given choices, and all else as it is by default."""

    def __init__(self, manifest: Manifest, files: list[Path], options: LoadOptions, settings: Settings) -> None:
        self._manifest, self._files, self._options, self._settings = manifest, files, options, settings
        self.default = self._make(options)

    def __call__(self, choices: Choices) -> LoadSpec:
        """The spec; raises OutOfMemoryError where it does not fit beside what runs."""
        default = self.default.spec
        chosen = {"kv_layout": default.kv_layout, "num_ctx": default.num_ctx, "num_slots": default.num_slots}
        spec = self._make(msgspec.structs.replace(self._options, **(chosen | choices.chosen()))).spec
        others = {name: value for name, value in choices.chosen().items() if name != "kv_layout"}
        # Prefixes of one measurement must not be kept for the next.
        return msgspec.structs.replace(spec, host_tokens=0, **others)

    def _make(self, wanted: LoadOptions) -> PlannedLoad:
        return plan_load(self._manifest, self._files, wanted, self._settings, contextlib.nullcontext())


def _base(spec: LoadSpec, options: LoadOptions) -> Base:
    pinned = [group for group in GROUPS if any(getattr(options, name) is not None for name in group)]
    return Base(
        num_cores=devices.num_cores(),
        num_logical_cores=num_logical_cores(),
        num_threads=spec.num_threads,
        num_slots=spec.num_slots,
        num_batch=spec.num_batch,
        num_ubatch=min(spec.num_ubatch, spec.num_batch),
        kv_layout=spec.kv_layout,
        pinned=frozenset(name for group in pinned for name in group),
    )


class Sizes(msgspec.Struct, frozen=True):
    """Tokens of one round: a prompt alone and its answer; a late prompt beside streams, and what all then decode."""

    prompt: int = 64
    answer: int = 8
    late: int = 32
    late_answer: int = 4

    def for_seconds(self, seconds: float, figures: Figures, num_ctx: int) -> Sizes:
        """Sizes that take about so long at these rates, within what a context holds."""
        most = max(32, min(2048, num_ctx - 128))
        answer = _clamp(0.15 * seconds * figures["decode_1"], 8, 64)
        prompt = _rounded(_clamp(0.45 * seconds * figures["prefill"], 32, most))
        if "first_token" not in figures:
            return Sizes(prompt, answer, 0, 0)
        late_answer = _clamp(0.2 * seconds * figures["decode_4"] / _NUM_STREAMS, 6, 48)
        # Beside streams a prompt is computed at no more than its own speed.
        late = _clamp(0.2 * seconds * self.late / figures["first_token"], 32, min(256, most // 2))
        return Sizes(prompt, answer, late, late_answer)


class Bench:
    """Engines by their choices, at most `capacity` of them alive at once; a context manager that ends them all.

    `plan(choices)` says how a model is loaded with them, or raises. Measurements never run at the same time.
    """

    def __init__(self, plan: Callable[[Choices], LoadSpec], capacity: int) -> None:
        self.sizes = Sizes()
        self.has_twins = True
        self._plan = plan
        self._capacity = capacity
        self._specs: dict[Choices, LoadSpec] = {}
        self._engines: dict[tuple[Choices, bool], EngineProcess] = {}
        self._random = random.Random(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._keep(0)

    async def measure(self, choices: Choices, prompt_tokens: int, *, twin: bool = False) -> Figures:
        """See Measurer.measure."""
        engine = await self._engine(choices, twin=twin and self.has_twins and self._capacity > 1)
        return await self._alone(engine, prompt_tokens) | await self._beside_streams(engine)

    async def loss(self, choices: Choices) -> str:
        """See Measurer.loss."""
        ours = await self._answer(await self._engine(choices, twin=False))
        base = await self._answer(await self._engine(Choices(), twin=False))
        same = next((at for at, (a, b) in enumerate(zip(ours, base, strict=False)) if a.token != b.token), len(base))
        words = f"the greedy answer to one text is the same for {same} of {len(base)} tokens"
        if not same:
            return words
        apart = statistics.mean(abs(a.logprob - b.logprob) for a, b in zip(ours[:same], base[:same], strict=True))
        return f"{words}, their log probabilities {apart:.3f} apart"

    # --- engines --------------------------------------------------------------------------------------------------

    async def _engine(self, choices: Choices, *, twin: bool) -> EngineProcess:
        key = (choices, twin)
        engine = self._engines.pop(key, None)
        if engine is not None and not engine.is_alive:
            await engine.close()
            engine = None
        if engine is None:
            await self._keep(self._capacity - 1)
            if choices not in self._specs:
                self._specs[choices] = self._plan(choices)
            engine = EngineProcess(self._specs[choices])
            try:
                async for _fraction in engine.start():
                    pass
                await self._warm_up(engine)
            except BaseException:
                await engine.close()
                raise
        self._engines[key] = engine
        return engine

    async def _warm_up(self, engine: EngineProcess) -> None:
        """Touch the memory, and let the scheduler learn what a prompt costs: else the first round would pay for it."""
        await self._run(engine, 32, 2)
        await self._beside_streams(engine)

    async def _keep(self, count: int) -> None:
        """End the engines that were not used for longest till `count` are left."""
        while len(self._engines) > count:
            await self._engines.pop(next(iter(self._engines))).close()

    # --- work -----------------------------------------------------------------------------------------------------

    async def _alone(self, engine: EngineProcess, prompt_tokens: int) -> dict[str, float]:
        end = await self._run(engine, prompt_tokens, self.sizes.answer)
        prompt_s, decode_s = max(1e-6, end.timings.prompt_s), max(1e-6, end.timings.decode_s)
        return {"prefill": prompt_tokens / prompt_s, "decode_1": (self.sizes.answer - 1) / decode_s}

    async def _beside_streams(self, engine: EngineProcess) -> dict[str, float]:
        """A prompt that arrives while three streams decode: seconds to its first token, then the rate of all four."""
        sizes = self.sizes
        if engine.spec.num_slots < _NUM_STREAMS or not sizes.late:
            return {}
        room = engine.spec.num_ctx - _SHORT - 1
        length = min(room, sizes.late + 4 * sizes.late_answer + 64)
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            running = [await stack.enter_async_context(self._stream(engine, length)) for _ in range(_NUM_STREAMS - 1)]
            await asyncio.gather(*(begun.wait() for begun in running))
            began = loop.time()
            first_s = math.inf
            async for event in engine.complete(self._request(engine, sizes.late, sizes.late_answer)):
                if not isinstance(event, Notice | Progress) and first_s == math.inf:
                    first_s = loop.time() - began
                if isinstance(event, Finished):
                    rate = _NUM_STREAMS * (sizes.late_answer - 1) / max(1e-6, event.timings.decode_s)
                    return {"first_token": first_s, "decode_4": rate}
        raise AssertionError("a stream ends in Finished")

    @contextlib.asynccontextmanager
    async def _stream(self, engine: EngineProcess, length: int) -> AsyncIterator[asyncio.Event]:
        """A stream that decodes till the end of the block; its event says that it has begun."""
        begun = asyncio.Event()

        async def run() -> None:
            async with closing(engine.complete(self._request(engine, _SHORT, length))) as events:
                async for _event in events:
                    begun.set()

        task = asyncio.create_task(run())
        task.add_done_callback(lambda _task: begun.set())
        try:
            yield begun
        finally:
            task.cancel()
            # Its own error, if any, is the late prompt's too.
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self, engine: EngineProcess, num_prompt: int, num_output: int) -> Finished:
        async for event in engine.complete(self._request(engine, num_prompt, num_output)):
            if isinstance(event, Finished):
                return event
        raise AssertionError("a stream ends in Finished")

    async def _answer(self, engine: EngineProcess) -> list[TokenLogprob]:
        sampling = SamplingParams(temperature=0.0, max_tokens=_LOSS_TOKENS, ignore_eos=True, logprobs=0)
        found: list[TokenLogprob] = []
        async for event in engine.complete(CompletionRequest("", _LOSS_TEXT, sampling, speculate=False)):
            if isinstance(event, TextDelta):
                found += event.logprobs
        return found

    def _request(self, engine: EngineProcess, num_prompt: int, num_output: int) -> CompletionRequest:
        """Random token ids: no prefix in common with anything, and no text of a kind that a machine would favour."""
        assert engine.info is not None
        most = engine.info.num_vocab
        prompt = tuple(self._random.randrange(most // 8, most - most // 8) for _ in range(num_prompt))
        sampling = msgspec.structs.replace(_GREEDY, max_tokens=num_output)
        # Answers to nonsense repeat themselves: guessing ahead would look better than it is.
        return CompletionRequest("", prompt, sampling, speculate=False)


def _clamp(value: float, least: int, most: int) -> int:
    return max(least, min(most, int(value)))


def _rounded(count: int) -> int:
    """Down to a multiple of 64, what llama.cpp's kernels like, where that leaves something."""
    return count - count % 64 if count >= 64 else count
