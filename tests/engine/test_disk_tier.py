"""Prefixes on disk with real children: what one engine computed serves the next."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from localllm.api import CompletionRequest, Finished, SamplingParams, TextDelta
from localllm.engine.frames import LoadSpec
from localllm.engine.process import EngineProcess
from tests.engine.conftest import open_engine, run, spec_of
from tests.tiny_models import EXACT

GREEDY = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)


def tokens(seed: int, count: int) -> tuple[int, ...]:
    rng = random.Random(seed)
    return tuple(rng.randrange(256) for _ in range(count))


PROMPT = tokens(1, 400)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "prefixes"


@pytest.fixture
def disk_spec(tiny_model: Callable[..., Path], root: Path) -> LoadSpec:
    """A tiny model whose answers do not depend on what is computed together, with prefixes on disk."""
    return spec_of(
        tiny_model("llama"),
        num_threads=1,
        prefix_dir=str(root),
        prefix_key="tiny",
        prefix_disk_bytes=1 << 30,
        **EXACT,
    )


async def ask(engine: EngineProcess, prompt: tuple[int, ...]) -> tuple[int, str]:
    """How many tokens of the prompt were cached, and the answer."""
    text = ""
    async for event in engine.complete(CompletionRequest("m", prompt, GREEDY)):
        if isinstance(event, TextDelta):
            text += event.text
        if isinstance(event, Finished):
            return event.usage.num_cached_tokens, text
    raise AssertionError("a stream ends in Finished")


@pytest.mark.parametrize("layout", ["streams", "unified"])
def test_a_prefix_outlives_its_engine(disk_spec: LoadSpec, layout: str) -> None:
    spec = msgspec.structs.replace(disk_spec, kv_layout=layout)

    async def main() -> None:
        async with open_engine(spec) as engine:
            num_cached, answer = await ask(engine, PROMPT)
            assert num_cached == 0
        # Closed at once: it was written on the way out.
        for _ in range(2):
            async with open_engine(msgspec.structs.replace(spec, num_ctx=512)) as engine:
                assert await ask(engine, PROMPT) == (399, answer)
        async with open_engine(msgspec.structs.replace(spec, prefix_key="another model")) as engine:
            assert await ask(engine, PROMPT) == (0, answer)

    run(main)
