"""Engines for tests: a real child with real weights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from localllm.engine.frames import LoadSpec
from localllm.engine.process import EngineProcess

OpenEngine = Callable[..., Any]


def spec_of(path: Path, **changes: Any) -> LoadSpec:
    """A small LoadSpec for a model file."""
    spec = LoadSpec(
        paths=(str(path),),
        num_ctx=1024,
        num_cells=4096,
        num_slots=4,
        num_batch=256,
        num_threads=2,
        kv_layout="streams",
        devices=(),
        host_tokens=4096,
    )
    return msgspec.structs.replace(spec, **changes)


@asynccontextmanager
async def open_engine(spec: LoadSpec, **options: Any) -> AsyncIterator[EngineProcess]:
    """A loaded engine child, ended at the end of the block."""
    engine = EngineProcess(spec, **options)
    try:
        async for _fraction in engine.start():
            pass
        yield engine
    finally:
        await engine.close()


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run an async test body, bounded in time."""

    async def bounded() -> None:
        async with asyncio.timeout(120):
            await main()

    asyncio.run(bounded())


@pytest.fixture
def spec(smollm2_path: Path) -> LoadSpec:
    """A LoadSpec of the real model: 4 slots of 1,024 tokens."""
    return spec_of(smollm2_path)
