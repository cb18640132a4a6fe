"""The engine child with real weights: answers, errors, aborts, crashes, hangs. Real processes and pipes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from localllm.api import (
    ChatRequest,
    CompletionRequest,
    Event,
    Finished,
    Message,
    SamplingParams,
    TextDelta,
    TokenLogprob,
)
from localllm.engine.frames import LoadSpec
from localllm.engine.process import EngineProcess
from localllm.errors import (
    ContextLengthError,
    EngineCrashedError,
    EngineLoadError,
    InvalidRequestError,
    LocalLLMError,
)
from tests.engine.conftest import open_engine, run

pytestmark = pytest.mark.weights

GREEDY = SamplingParams(temperature=0, max_tokens=24)


def completion(prompt: str | tuple[int, ...], **sampling: Any) -> CompletionRequest:
    return CompletionRequest("smollm2", prompt, msgspec.structs.replace(GREEDY, **sampling))


async def collect(events: AsyncIterator[Event]) -> tuple[str, Finished]:
    """The text of a stream and its one Finished, which must be last."""
    text, finished = "", None
    async for event in events:
        assert finished is None, "an event after Finished"
        if isinstance(event, TextDelta):
            text += event.text
        elif isinstance(event, Finished):
            finished = event
    assert finished is not None
    return text, finished


def test_a_chat_and_a_completion_are_answered(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec) as engine:
            text, finished = await collect(engine.complete(completion("The capital of France is", max_tokens=8)))
            assert "Paris" in text
            assert finished.reason == "length"
            assert finished.usage.num_output_tokens == 8
            assert finished.timings.prompt_s > 0
            chat = ChatRequest("smollm2", (Message("user", "Repeat after me: good morning"),), GREEDY)
            text, finished = await collect(engine.chat(chat))
            assert "ood morning" in text
            # One less than llama.cpp's own server counts for "What is the capital of France?", by one word.
            assert finished.usage.num_prompt_tokens == 36
            assert engine.num_active == 0

    run(main)


def test_text_survives_tokenizing_and_back(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec) as engine:
            text = "Grüße, 世界! <|im_end|> \n\t 🦙"
            tokens = await engine.tokenize(text)
            assert await engine.detokenize(tuple(tokens)) == text
            assert len(await engine.tokenize("<|im_end|>", parse_special=True)) == 1
            assert len(await engine.tokenize("<|im_end|>")) > 1

    run(main)


def test_many_at_once_give_what_each_gives_alone(spec: LoadSpec) -> None:
    prompts = [f"Count: {', '.join(map(str, range(n, n + 12)))}," for n in range(1, 41, 5)]

    async def main() -> None:
        async with open_engine(spec) as engine:
            alone = [await greedy_logprobs(engine, prompt) for prompt in prompts]
        async with open_engine(spec) as engine:
            together = await asyncio.gather(*(greedy_logprobs(engine, prompt) for prompt in prompts))
        for mine, theirs in zip(alone, together, strict=True):
            assert_same_but_for_rounding(mine, theirs)

    run(main)


def test_a_shared_prefix_is_computed_once(spec: LoadSpec) -> None:
    system = "You are a careful assistant. " * 60

    async def main() -> None:
        async with open_engine(spec) as engine:
            streams = (collect(engine.complete(completion(f"{system} Question {i}:"))) for i in range(4))
            finished = [end for _, end in await asyncio.gather(*streams)]
            cached = sorted(end.usage.num_cached_tokens for end in finished)
            assert cached[0] == 0
            assert cached[1] > 250
            _, again = await collect(engine.complete(completion(f"{system} Question 9:")))
            assert again.usage.num_cached_tokens > 250

    run(main)


async def greedy_logprobs(engine: EngineProcess, prompt: str) -> list[TokenLogprob]:
    """The first 12 tokens of an answer, each with its two likeliest."""
    entries: list[TokenLogprob] = []
    async for event in engine.complete(completion(prompt, max_tokens=12, logprobs=2)):
        if isinstance(event, TextDelta):
            entries.extend(event.logprobs)
    return entries


def assert_same_but_for_rounding(plain: list[TokenLogprob], other: list[TokenLogprob]) -> None:
    """Answers agree until the model itself wavered: kernels round differently by batch shape, 0.26 nats seen."""
    for mine, theirs in zip(plain, other, strict=False):
        if mine.token != theirs.token:
            assert mine.top[0][2] - mine.top[1][2] < 0.4
            return
        assert abs(mine.logprob - theirs.logprob) < 0.4


@pytest.mark.parametrize("layout", ["streams", "unified"])
def test_a_reused_prefix_gives_the_same_answer(spec: LoadSpec, layout: str) -> None:
    """Ten conversations on two slots: prefixes go to host memory and come back, the answers stay as without a cache."""
    spec = msgspec.structs.replace(spec, kv_layout=layout, num_slots=2, num_cells=2048)
    heads = [f"Story {n}. " + f"Once upon a time there were {n} llamas. " * 12 for n in range(10)]

    async def main() -> None:
        async with open_engine(msgspec.structs.replace(spec, num_slots=1, num_cells=1024, host_tokens=0)) as engine:
            plain = [await greedy_logprobs(engine, head + "They") for head in heads]
        async with open_engine(spec) as engine:
            for head in heads:
                await collect(engine.complete(completion(head, max_tokens=1)))
            cached = [await greedy_logprobs(engine, head + "They") for head in heads]
            _, end = await collect(engine.complete(completion(heads[0] + "They")))
            assert end.usage.num_cached_tokens > 80
        for mine, theirs in zip(plain, cached, strict=True):
            assert_same_but_for_rounding(mine, theirs)

    run(main)


def test_closing_a_stream_aborts_the_request(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec) as engine:
            stream = engine.complete(completion("Once", max_tokens=None, ignore_eos=True))
            async for event in stream:
                if isinstance(event, TextDelta):
                    break
            await stream.aclose()  # type: ignore[attr-defined]
            assert engine.num_active == 0
            # The slot is free again: as many requests as there are slots run at once.
            begun = time.perf_counter()
            ends = await asyncio.gather(*(collect(engine.complete(completion(f"{i}", max_tokens=4))) for i in range(4)))
            assert len(ends) == 4
            assert max(end.timings.queue_s for _, end in ends) < time.perf_counter() - begun

    run(main)


def test_a_prompt_at_the_edge_of_the_context(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec) as engine:
            _, end = await collect(engine.complete(completion((1,) * 1023, max_tokens=None, ignore_eos=True)))
            assert (end.reason, end.usage.num_output_tokens) == ("length", 1)
            for num in (1024, 10_240):
                with pytest.raises(ContextLengthError) as caught:
                    await collect(engine.complete(completion((1,) * num)))
                assert caught.value.facts == {"num_prompt_tokens": num, "num_ctx": 1024}
            long = ChatRequest("smollm2", (Message("user", "word " * 3000),), GREEDY)
            with pytest.raises(ContextLengthError, match="1024"):
                await collect(engine.chat(long))

    run(main)


@pytest.mark.parametrize(
    ("prompt", "sampling"),
    [
        ((49_152,), {}),
        ((-1,), {}),
        ((), {}),
        ("", {}),
        ("x", {"temperature": float("nan")}),
        ("x", {"temperature": -1.0}),
        ("x", {"top_k": -1}),
        ("x", {"top_k": 2**63}),
        ("x", {"seed": 2**64}),
        ("x", {"repeat_penalty": 0.0}),
        ("x", {"presence_penalty": 1e30}),
        ("x", {"logit_bias": {10**9: 1.0}}),
        ("x", {"stop": ("",)}),
        ("x", {"stop": ("a",) * 17}),
        ("x", {"logprobs": 10**6}),
        ("x", {"max_tokens": -1}),
    ],
)
def test_bad_input_is_refused_and_the_child_lives(
    shared_engine: SharedEngine, prompt: str | tuple[int, ...], sampling: dict[str, Any]
) -> None:
    async def main(engine: EngineProcess) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            await collect(engine.complete(completion(prompt, **sampling)))
        assert caught.value.message
        text, _ = await collect(engine.complete(completion("The capital of France is", max_tokens=4)))
        assert "Paris" in text

    shared_engine.run(main)


def test_stop_strings_and_logprobs(shared_engine: SharedEngine) -> None:
    async def main(engine: EngineProcess) -> None:
        text, end = await collect(engine.complete(completion("1, 2, 3, 4,", stop=(" 9",), max_tokens=60)))
        assert (end.reason, end.stop) == ("stop", " 9")
        assert text.endswith("8,")
        events = [event async for event in engine.complete(completion("1, 2, 3, 4,", logprobs=3, max_tokens=4))]
        logprobs = [entry for event in events if isinstance(event, TextDelta) for entry in event.logprobs]
        assert len(logprobs) == 4
        for entry in logprobs:
            assert entry.logprob <= 0
            assert len(entry.top) == 3
            assert entry.top[0][0] == entry.token, "greedy takes the likeliest"
            assert entry.top[0][2] >= entry.top[1][2] >= entry.top[2][2]

    shared_engine.run(main)


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.7, "seed": 5},
        {"temperature": 0.7, "seed": 5, "top_k": 5, "top_p": 0.5, "min_p": 0.1, "typical_p": 0.9},
        {"temperature": 0.7, "seed": 5, "mirostat": 1},
        {"temperature": 0.7, "seed": 5, "mirostat": 2, "mirostat_tau": 3.0},
        {"temperature": 0.7, "seed": 5, "xtc_probability": 0.5, "xtc_threshold": 0.1},
        {"temperature": 0.7, "seed": 5, "dry_multiplier": 0.8},
        {"temperature": 0.7, "seed": 5, "top_n_sigma": 1.0},
        {"temperature": 0.7, "seed": 5, "repeat_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.5},
        {"temperature": 0.0, "repeat_penalty": 1.3, "repeat_last_n": -1},
    ],
)
def test_every_sampler_runs_and_a_seed_repeats(shared_engine: SharedEngine, sampling: dict[str, Any]) -> None:
    async def main(engine: EngineProcess) -> None:
        texts = [(await collect(engine.complete(completion("Once upon a time", **sampling))))[0] for _ in range(2)]
        assert texts[0] == texts[1]
        assert texts[0]

    shared_engine.run(main)


def test_logit_bias_and_ignore_eos(shared_engine: SharedEngine) -> None:
    async def main(engine: EngineProcess) -> None:
        (token,) = await engine.tokenize(" London")
        bias = {token: 100.0}
        text, _ = await collect(engine.complete(completion("The capital of France is", logit_bias=bias, max_tokens=3)))
        assert text == " London London London"
        chat = ChatRequest(
            "m", (Message("user", "Say hi"),), SamplingParams(temperature=0, max_tokens=200, ignore_eos=True)
        )
        _, end = await collect(engine.chat(chat))
        assert end.usage.num_output_tokens == 200
        none, end = await collect(engine.complete(completion("x", max_tokens=0)))
        assert (none, end.reason, end.usage.num_output_tokens) == ("", "length", 0)

    shared_engine.run(main)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_killed_child_ends_every_request_with_one_error(spec: LoadSpec) -> None:
    async def main() -> None:
        exits: list[LocalLLMError] = []
        async with open_engine(spec, on_exit=exits.append) as engine:
            streams = [
                asyncio.create_task(collect(engine.complete(completion(f"{i}", max_tokens=None, ignore_eos=True))))
                for i in range(6)
            ]
            while engine.num_active < 6:
                await asyncio.sleep(0)
            os.kill(engine.pid, signal.SIGKILL)
            begun = time.perf_counter()
            results = await asyncio.gather(*streams, return_exceptions=True)
            assert time.perf_counter() - begun < 1.0
            assert all(isinstance(result, EngineCrashedError) for result in results)
            assert all(result.facts["signal"] == "SIGKILL" for result in results if isinstance(result, LocalLLMError))
            assert len(exits) == 1
            with pytest.raises(EngineCrashedError):
                await collect(engine.complete(completion("x")))

    run(main)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_stopped_child_is_noticed_and_ended(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec, silence_s=1.0) as engine:
            stream = asyncio.create_task(collect(engine.complete(completion("x", max_tokens=None, ignore_eos=True))))
            while not engine.num_active:
                await asyncio.sleep(0)
            os.kill(engine.pid, signal.SIGSTOP)
            with pytest.raises(EngineCrashedError, match="hung"):
                await stream

    run(main)


def test_a_child_is_not_called_hung_because_nobody_listened(spec: LoadSpec) -> None:
    async def main() -> None:
        async with open_engine(spec, silence_s=1.0) as engine:
            await collect(engine.complete(completion("x", max_tokens=1)))
            time.sleep(2.0)  # the loop is held up, which is what this is about
            events = await collect(engine.complete(completion("x", max_tokens=200, ignore_eos=True)))
            assert isinstance(events[-1], Finished)

    run(main)


def test_a_file_that_is_no_model_is_a_load_error(tmp_path: Path, spec: LoadSpec) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + b"\0" * 100)

    async def main() -> None:
        engine = EngineProcess(msgspec.structs.replace(spec, paths=(str(bad),)))
        with pytest.raises(EngineLoadError):
            async for _ in engine.start():
                pass
        await engine.close()

    run(main)


@pytest.mark.skipif(sys.platform == "win32", reason="/proc and POSIX signals")
def test_the_child_ends_with_its_parent(spec: LoadSpec) -> None:
    code = f"""
import asyncio, os, signal, msgspec
from localllm.engine.frames import LoadSpec
from localllm.engine.process import EngineProcess
async def main():
    engine = EngineProcess(msgspec.json.decode({msgspec.json.encode(spec)!r}, type=LoadSpec))
    async for _ in engine.start(): pass
    print(engine.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""

    async def main() -> None:
        parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        assert parent.stdout is not None
        pid = int(await parent.stdout.readline())
        assert await parent.wait() == -signal.SIGKILL
        for _ in range(200):
            if not _is_running(pid):
                return
            await asyncio.sleep(0.02)
        pytest.fail(f"child {pid} outlives its parent")

    run(main)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


class SharedEngine:
    """One engine child and its event loop, for tests that leave it as it was."""

    def __init__(self, spec: LoadSpec) -> None:
        self._runner = asyncio.Runner()
        self._engine = self._runner.run(self._open(spec))

    @staticmethod
    async def _open(spec: LoadSpec) -> EngineProcess:
        engine = EngineProcess(spec)
        async for _ in engine.start():
            pass
        return engine

    def run(self, main: Any) -> None:
        """Run a test body with the engine."""
        self._runner.run(asyncio.wait_for(main(self._engine), 60))

    def close(self) -> None:
        """End the child."""
        self._runner.run(self._engine.close())
        self._runner.close()


@pytest.fixture(scope="module")
def shared_engine(smollm2_path: Path) -> Any:
    from tests.engine.conftest import spec_of

    engine = SharedEngine(spec_of(smollm2_path))
    yield engine
    engine.close()
