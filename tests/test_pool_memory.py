"""Memory that is not there: a real child under a real limit of its address space. It dies or refuses, in true words;
who asked is told, the parent lives, and whoever asks next is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from localllm.api import (
    ChatRequest,
    CompletionRequest,
    Event,
    Finished,
    LoadOptions,
    Message,
    Regex,
    SamplingParams,
    TextDelta,
)
from localllm.config import Settings
from localllm.engine import children
from localllm.engine.process import EngineProcess
from localllm.errors import EngineError, InvalidRequestError, LocalLLMError, OutOfMemoryError
from localllm.service import Service

pytestmark = [
    pytest.mark.weights,
    pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS of another process is Linux's"),
]

SHORT = SamplingParams(temperature=0, max_tokens=4)


def limit(pid: int, num_bytes: int) -> None:
    import resource

    resource.prlimit(pid, resource.RLIMIT_AS, (num_bytes, resource.RLIM_INFINITY))


def size_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmSize")).split()[1]) * 1024


async def text_of(service: Service, request: ChatRequest | CompletionRequest) -> str:
    stream = service.chat(request) if isinstance(request, ChatRequest) else service.complete(request)
    events: list[Event] = [event async for event in stream]
    assert isinstance(events[-1], Finished)
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize(
    "num_mib", [330, 420, 510, *(pytest.param(num, marks=pytest.mark.long) for num in range(340, 600, 20))]
)
def test_a_load_without_memory_is_told_with_both_sizes(
    smollm2_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_mib: int
) -> None:
    """F16: whatever of Python or llama.cpp meets the limit first. Others have none, and are served."""
    model = tmp_path / "smol.gguf"
    model.symlink_to(smollm2_path)
    limited: list[int] = []
    spawn_unlimited = children._spawn

    def spawn() -> subprocess.Popen[bytes]:
        child = spawn_unlimited()
        limited.append(child.pid)
        limit(child.pid, num_mib << 20)
        return child

    async def main() -> None:
        service = Service(Settings(offline=True), load_options=LoadOptions(num_slots=1, num_ctx=1024, num_threads=1))
        began = time.monotonic()
        try:
            with monkeypatch.context() as patch:
                patch.setattr(children, "_spawn", spawn)
                try:
                    assert await text_of(service, CompletionRequest(str(model), "Hello", SHORT))
                    assert num_mib > 330, "it was not limited"
                    return
                except OutOfMemoryError as exc:
                    error = exc
            assert time.monotonic() - began < 20
            assert error.facts["needed_bytes"] > 98 << 20
            assert error.facts["available_bytes"] > 0
            assert "not enough memory" in error.message
            assert await service.list_loaded() == []
            assert not [pid for pid in limited if Path(f"/proc/{pid}").exists()]
            assert await text_of(service, CompletionRequest(str(model), "Hello", SHORT))
        finally:
            await service.close()

    asyncio.run(main())


REQUESTS: dict[str, ChatRequest | CompletionRequest] = {
    # Its template is rendered in a thread, for whose stack there is no memory.
    "a chat": ChatRequest("", (Message("user", "word " * 300),), SHORT),
    "a long prompt": CompletionRequest("", "word " * 1500, SHORT),
    "a grammar": CompletionRequest("", "x", SHORT, constraint=Regex("(a|b|c){1,400}x")),
    "a long answer": CompletionRequest("", "x", SamplingParams(max_tokens=300, ignore_eos=True)),
}


LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("a long prompt", "a long answer")]


@pytest.mark.parametrize("name", ["a chat", "a grammar", *LONG])
def test_a_request_without_memory_ends_and_the_next_is_served(smollm2_path: Path, tmp_path: Path, name: str) -> None:
    """F17: it is answered with what is there, refused, or its child ends; nobody waits for a thread that is gone."""
    model = tmp_path / "smol.gguf"
    model.symlink_to(smollm2_path)

    async def main() -> None:
        service = Service(Settings(offline=True), load_options=LoadOptions(num_slots=1, num_ctx=2048, num_threads=1))
        service._pool._start_engine = lambda spec, on_exit: EngineProcess(
            spec, on_exit=on_exit, silence_s=2.0, stuck_text_s=1.0
        )
        try:
            await text_of(service, CompletionRequest(str(model), "Hello", SHORT))
            (loaded,) = await service.list_loaded()
            limit(loaded.pid, size_of(loaded.pid))
            began = time.monotonic()
            try:
                assert await text_of(service, msgspec.structs.replace(REQUESTS[name], model=str(model)))
            except (EngineError, InvalidRequestError) as exc:
                said: LocalLLMError = exc
                assert any(word in said.message for word in ("memory", "hung", "ended", "killed")), said.message
            assert time.monotonic() - began < 20
            with contextlib.suppress(ProcessLookupError):
                limit(loaded.pid, -1)
            assert await text_of(service, CompletionRequest(str(model), "Hello", SHORT))
        finally:
            await service.close()

    asyncio.run(main())
