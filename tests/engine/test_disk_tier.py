"""Prefixes on disk with real children: restart, kill, damage, budget, two engines at once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from localllm.api import CompletionRequest, Finished, SamplingParams, TextDelta
from localllm.engine.frames import LoadSpec
from localllm.engine.prefix_files import PrefixFiles
from localllm.engine.process import EngineProcess
from localllm.errors import EngineError
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


async def appears(root: Path, count: int = 1) -> list[Path]:
    """The files of the folder, once there are so many."""
    while len(found := sorted(root.rglob("*.kv"))) < count:
        await asyncio.sleep(0.01)
    return found


def outlives(spec: LoadSpec) -> None:
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


@pytest.mark.parametrize("layout", ["streams", "unified"])
def test_a_prefix_outlives_its_engine(disk_spec: LoadSpec, layout: str) -> None:
    outlives(msgspec.structs.replace(disk_spec, kv_layout=layout))


@pytest.mark.weights
@pytest.mark.parametrize("layout", ["streams", "unified"])
def test_a_real_prefix_outlives_its_engine(disk_spec: LoadSpec, smollm2_path: Path, layout: str) -> None:
    outlives(msgspec.structs.replace(disk_spec, kv_layout=layout, paths=(str(smollm2_path),), num_threads=2))


def test_soon_after_an_answer_a_killed_engine_has_it_on_disk(disk_spec: LoadSpec, root: Path) -> None:
    async def main() -> None:
        async with open_engine(disk_spec) as engine:
            _, answer = await ask(engine, PROMPT)
            await appears(root)
            os.kill(engine.pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        async with open_engine(disk_spec) as engine:
            assert await ask(engine, PROMPT) == (399, answer)

    run(main)


@pytest.mark.parametrize("rounds", [2, pytest.param(50, marks=pytest.mark.long)])
def test_killed_at_any_moment_of_a_write(disk_spec: LoadSpec, root: Path, rounds: int) -> None:
    """What the next engine finds is whole: it answers the same with it and without it."""
    rng = random.Random(7)
    answers: dict[int, str] = {}

    async def main() -> None:
        num_found = 0
        for number in range(rounds):
            async with open_engine(disk_spec) as engine:
                for seed in (100 + number - 1, 100 + number):
                    num_cached, answer = await ask(engine, tokens(seed, 900))
                    num_found += num_cached > 0
                    assert answers.setdefault(seed, answer) == answer
                # It begins to write 0.2 s after the answer, and takes some milliseconds.
                await asyncio.sleep(0.195 + rng.random() * 0.02)
                os.kill(engine.pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        for path in root.rglob("t-*"):
            os.utime(path, (time.time() - 1000, time.time() - 1000))
        async with open_engine(disk_spec) as engine:
            for seed, answer in answers.items():
                assert (await ask(engine, tokens(seed, 900)))[1] == answer
        assert list(root.rglob("t-*")) == []

    run(main)


def test_a_damaged_prefix_is_computed_anew(disk_spec: LoadSpec, root: Path) -> None:
    async def main() -> None:
        async with open_engine(disk_spec) as engine:
            _, answer = await ask(engine, PROMPT)
        (path,) = await appears(root)
        whole = path.read_bytes()
        # Damage in the state is seen when it is read, in the tokens when the folder is, and at last after the scan.
        for at in (-5000, 300, len(whole) // 2):
            broken = bytearray(whole)
            broken[at] ^= 1
            path.write_bytes(broken)
            async with open_engine(disk_spec) as engine:
                assert await ask(engine, PROMPT) == (0, answer)
            assert path.read_bytes() == whole
        async with open_engine(disk_spec) as engine:
            path.write_bytes(whole[: len(whole) // 2])
            assert await ask(engine, PROMPT) == (0, answer)

    run(main)


def test_a_state_that_llama_cpp_refuses_ends_one_engine_and_no_more(disk_spec: LoadSpec, root: Path) -> None:
    async def main() -> None:
        async with open_engine(disk_spec) as engine:
            _, answer = await ask(engine, PROMPT)
        (path,) = await appears(root)
        # A whole file, whose state is none.
        files = PrefixFiles(root, path.parent.name, 1 << 30)
        (stored,) = files.scan()
        assert files.write(stored, bytes(1000), lambda: None)[0]
        async with open_engine(disk_spec) as engine:
            with pytest.raises(EngineError):
                await ask(engine, PROMPT)
        assert not path.exists()
        async with open_engine(disk_spec) as engine:
            assert await ask(engine, PROMPT) == (0, answer)

    run(main)


def test_the_budget_holds(disk_spec: LoadSpec, root: Path) -> None:
    spec = msgspec.structs.replace(disk_spec, prefix_disk_bytes=1 << 20)  # two prefixes of 400 tokens, and a bit

    async def main() -> None:
        async with open_engine(spec) as engine:
            for seed in range(4):
                before = set(root.rglob("*.kv"))
                await ask(engine, tokens(seed, 400))
                while set(root.rglob("*.kv")) <= before:
                    await asyncio.sleep(0.01)
                assert sum(path.stat().st_size for path in root.rglob("*.kv")) <= 1 << 20
        async with open_engine(spec) as engine:
            assert [(await ask(engine, tokens(seed, 400)))[0] for seed in (3, 2, 0)] == [399, 399, 0]

    run(main)


def test_two_engines_share_a_folder(disk_spec: LoadSpec, root: Path) -> None:
    async def main() -> None:
        async with open_engine(disk_spec) as one, open_engine(disk_spec) as other:
            answers = await asyncio.gather(*(ask(engine, PROMPT) for engine in (one, other)))
            assert answers[0] == answers[1]
            await asyncio.gather(ask(one, tokens(2, 300)), ask(other, tokens(3, 300)))
            await appears(root, 3)
        async with open_engine(disk_spec) as engine:
            cached = [(await ask(engine, prompt))[0] for prompt in (PROMPT, tokens(2, 300), tokens(3, 300))]
            assert cached == [399, 299, 299]

    run(main)


def test_what_another_process_removed_is_computed(disk_spec: LoadSpec, root: Path) -> None:
    async def main() -> None:
        async with open_engine(disk_spec) as engine:
            _, answer = await ask(engine, PROMPT)
        async with open_engine(disk_spec) as engine:
            for path in root.rglob("*.kv"):
                path.unlink()
            assert await ask(engine, PROMPT) == (0, answer)

    run(main)
