"""The pool with real children: one that is killed or hangs hurts nobody but its own requests, and is there again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from localllm.api import CompletionRequest, Event, Finished, LoadOptions, SamplingParams, TextDelta
from localllm.config import Settings
from localllm.engine.process import EngineProcess
from localllm.errors import EngineCrashedError, LocalLLMError, ModelCrashingError
from localllm.service import Service

pytestmark = [pytest.mark.weights, pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")]

ENDLESS = SamplingParams(ignore_eos=True, max_tokens=160, temperature=0)
SHORT = SamplingParams(temperature=0, max_tokens=2)


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[Service]:
    options = LoadOptions(num_slots=1, num_ctx=512, num_threads=1)
    service = Service(Settings(offline=True, **settings), load_options=options)
    try:
        yield service
    finally:
        await service.close()


@pytest.fixture
def models(smollm2_path: Path, tmp_path: Path) -> tuple[str, str, str]:
    """Three models that are one file."""
    names = tuple(str(tmp_path / f"{name}.gguf") for name in "abc")
    for name in names:
        Path(name).symlink_to(smollm2_path)
    return names  # type: ignore[return-value]


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(150):
            await main()

    asyncio.run(bounded())


def stream(service: Service, model: str, sampling: SamplingParams = ENDLESS) -> AsyncIterator[Event]:
    return service.complete(CompletionRequest(model, "Once upon a time", sampling))


async def pid_of(service: Service, model: str) -> int:
    return next(loaded.pid for loaded in await service.list_loaded() if loaded.name == model)


async def struck(service: Service, model: str, number: signal.Signals) -> float:
    """Send the model's child a signal at its first token, and read on; how long after that its error came."""
    at = 0.0
    try:
        async for event in stream(service, model):
            assert not isinstance(event, Finished)
            if isinstance(event, TextDelta) and not at:
                os.kill(await pid_of(service, model), number)
                at = time.monotonic()
    except EngineCrashedError as exc:
        exc.facts["after_s"] = time.monotonic() - at
        raise
    raise AssertionError("the stream ended as if nothing had happened")


async def text_of(events: AsyncIterator[Event]) -> str:
    return "".join([event.text async for event in events if isinstance(event, TextDelta)])


def test_a_kill_ends_its_own_stream_with_one_error_and_no_other(models: tuple[str, str, str]) -> None:
    """F09: within a second; the other model's stream is whole; served again within the load's time and 2 s."""
    victim, other, _ = models

    async def main() -> None:
        async with opened() as service:
            alone = await text_of(stream(service, other))
            began = time.monotonic()
            await text_of(stream(service, victim, SHORT))
            load_s = time.monotonic() - began
            undisturbed = asyncio.create_task(text_of(stream(service, other)))
            with pytest.raises(EngineCrashedError, match="SIGKILL") as caught:
                await struck(service, victim, signal.SIGKILL)
            assert caught.value.facts["after_s"] <= 1.0
            began = time.monotonic()
            assert await text_of(stream(service, victim, SHORT))
            assert time.monotonic() - began <= load_s + 2.0
            assert await undisturbed == alone

    run(main)


def test_a_child_that_hangs_is_ended(models: tuple[str, str, str]) -> None:
    """F18, with a shorter patience: silence is the death of the child, and the next request is served."""

    async def main() -> None:
        async with opened() as service:
            service._pool._start_engine = lambda spec, on_exit: EngineProcess(spec, on_exit=on_exit, silence_s=1.0)
            with pytest.raises(EngineCrashedError, match="hung") as caught:
                await struck(service, models[0], signal.SIGSTOP)
            assert caught.value.facts["after_s"] < 5.0
            assert await text_of(stream(service, models[0], SHORT))

    run(main)


def test_a_child_that_hangs_while_it_loads_is_ended(models: tuple[str, str, str]) -> None:
    async def main() -> None:
        async with opened() as service:
            service._pool._start_engine = lambda spec, on_exit: EngineProcess(
                spec, on_exit=on_exit, load_silence_s=1.0, silence_s=1.0
            )
            asking = asyncio.create_task(text_of(stream(service, models[0], SHORT)))
            async with asyncio.timeout(10):
                while not (loaded := await service.list_loaded()):
                    await asyncio.sleep(0.001)
            assert loaded[0].state == "loading"
            os.kill(loaded[0].pid, signal.SIGSTOP)
            with pytest.raises(EngineCrashedError, match="hung"):
                await asking
            assert await service.list_loaded() == []

    run(main)


def test_three_kills_open_the_circuit_with_the_reason_and_a_load_closes_it(models: tuple[str, str, str]) -> None:
    async def main() -> None:
        async with opened() as service:
            for _ in range(3):
                with pytest.raises(EngineCrashedError):
                    await struck(service, models[0], signal.SIGSEGV)
            began = time.monotonic()
            with pytest.raises(ModelCrashingError, match=r"3 times .* SIGSEGV"):
                await text_of(stream(service, models[0]))
            assert time.monotonic() - began < 0.5
            assert await text_of(stream(service, models[1], SHORT))
            async for _ in service.load(models[0]):
                pass
            assert await text_of(stream(service, models[0], SHORT))

    run(main)


def test_requests_over_three_models_with_memory_for_one(models: tuple[str, str, str]) -> None:
    """F15, in short: all are answered, no stream is cut for another, and each model is loaded once for all of its."""

    async def main() -> None:
        # 98 MiB of weights and some of cells and scratch: one fits, two do not.
        async with opened(memory_bytes=260 << 20) as service:
            pids: set[int] = set()

            async def ask(number: int) -> str:
                text = ""
                async for event in stream(service, models[number % 3], SamplingParams(temperature=0, max_tokens=8)):
                    if isinstance(event, TextDelta):
                        text += event.text
                        loaded = await service.list_loaded()
                        assert len(loaded) <= 2
                        pids.update(model.pid for model in loaded)
                return text

            texts = await asyncio.gather(*(ask(number) for number in range(12)))
            assert len(set(texts)) == 1
            assert texts[0]
            assert len(pids) == 3, "a model was loaded more than once"

    run(main)


@pytest.mark.long
def test_fifty_at_once_over_three_models_with_memory_for_one(models: tuple[str, str, str]) -> None:
    """F15: for ten minutes nobody fails, nobody is cut, and nobody waits for more than three models' turns."""
    seconds = float(os.environ.get("LOCALLLM_SWAP_SECONDS", "600"))

    async def main() -> None:
        async with opened(memory_bytes=260 << 20) as service:
            pids: set[int] = set()
            waits: list[float] = []
            num_answers = 0
            over = time.monotonic() + seconds

            async def ask(number: int) -> None:
                nonlocal num_answers
                while (began := time.monotonic()) < over:
                    request = stream(service, models[number % 3], SamplingParams(temperature=0, max_tokens=8))
                    first = True
                    async for event in request:
                        if isinstance(event, TextDelta) and first:
                            first = False
                            waits.append(time.monotonic() - began)
                            pids.update(model.pid for model in await service.list_loaded())
                    assert not first
                    num_answers += 1
                    number += 1

            await asyncio.gather(*(ask(number) for number in range(50)))
            print(f"{num_answers} answers, {len(pids)} loads, the longest wait {max(waits):.1f} s")
            # Those who wait for a model are served together: a load is for several answers, or swapping never ends.
            assert num_answers >= 4 * len(pids)
            assert max(waits) < 60

    async def bounded() -> None:
        async with asyncio.timeout(seconds + 120):
            await main()

    asyncio.run(bounded())


def test_a_failed_load_holds_nothing(models: tuple[str, str, str], tmp_path: Path) -> None:
    """A model whose weights are cut off is one error, each time, and can be removed."""
    whole = Path(models[0]).read_bytes()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(whole[: len(whole) // 2])

    async def main() -> None:
        async with opened() as service:
            for _ in range(2):
                with pytest.raises(LocalLLMError) as caught:
                    await text_of(stream(service, str(broken)))
                assert not isinstance(caught.value, ModelCrashingError)
            assert await service.list_loaded() == []
            assert service._pool.engines() == []

    run(main)
