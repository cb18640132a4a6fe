"""Service over a real store, real weights and real engine children."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from localllm.api import (
    Backend,
    ChatRequest,
    CompletionRequest,
    Event,
    Finished,
    LoadOptions,
    Message,
    Notice,
    Progress,
    SamplingParams,
    TextDelta,
)
from localllm.config import Settings
from localllm.errors import (
    EngineCrashedError,
    InvalidRequestError,
    LocalLLMError,
    ModelInUseError,
    ModelNotFoundError,
    OfflineError,
    OutOfMemoryError,
)
from localllm.service import Service
from localllm.store.describe import describe

pytestmark = pytest.mark.weights

NAME = "smollm2:135m"
GREEDY = SamplingParams(temperature=0, max_tokens=16)


@asynccontextmanager
async def opened(home: Path, weights: Path, **options: Any) -> AsyncIterator[Service]:
    """A Service over a store that holds smollm2:135m, linked and not copied."""
    service = Service(Settings(store_dir=home / "store", offline=True), load_options=LoadOptions(**options))
    blob = service.store.ingest(weights, digest=None, link=True)
    service.store.add(describe(NAME, "test", [blob], [weights]))
    try:
        yield service
    finally:
        await service.close()


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run an async test body, bounded in time."""

    async def bounded() -> None:
        async with asyncio.timeout(120):
            await main()

    asyncio.run(bounded())


def chat(text: str, **changes: Any) -> ChatRequest:
    return ChatRequest(changes.pop("model", NAME), (Message("user", text),), GREEDY, **changes)


async def text_of(events: AsyncIterator[Event]) -> tuple[str, list[Event]]:
    items = [event async for event in events]
    assert sum(isinstance(item, Finished) for item in items) == 1
    assert isinstance(items[-1], Finished)
    return "".join(item.text for item in items if isinstance(item, TextDelta)), items


async def kill_at_first_token(service: Service, stream: AsyncIterator[Event]) -> None:
    async for event in stream:
        if isinstance(event, TextDelta):
            (loaded,) = await service.list_loaded()
            os.kill(loaded.pid, signal.SIGKILL)


def test_it_is_a_backend(private_home: Path) -> None:
    assert isinstance(Service(Settings(store_dir=private_home)), Backend)


@pytest.mark.parametrize("name", [NAME, "smollm2"])
def test_a_chat_loads_the_model_and_says_so(private_home: Path, smollm2_path: Path, name: str) -> None:
    async def main() -> None:
        async with opened(private_home, smollm2_path, num_slots=2) as service:
            text, items = await text_of(service.chat(chat("Repeat after me: good morning", model=name)))
            assert "ood morning" in text
            assert any(isinstance(item, Progress) and item.stage == "load" for item in items)
            (loaded,) = await service.list_loaded()
            assert (loaded.name, loaded.num_slots, loaded.num_ctx) == (NAME, 2, 8192)
            _, again = await text_of(service.chat(chat("And now: good night", model=name)))
            assert not any(isinstance(item, Progress) for item in again)
            await service.unload(name)
            assert await service.list_loaded() == []
            with pytest.raises(ModelNotFoundError):
                await service.unload(name)

    run(main)


def test_a_file_runs_where_it_lies(private_home: Path, smollm2_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "some model.gguf"
    path.symlink_to(smollm2_path)

    async def main() -> None:
        async with opened(private_home, smollm2_path, num_slots=1) as service:
            request = CompletionRequest(str(path), "The capital of France is", GREEDY)
            text, _ = await text_of(service.complete(request))
            assert "Paris" in text
            assert [model.name for model in await service.list_models()] == [NAME]
            with pytest.raises(ModelNotFoundError, match="no file"):
                await text_of(service.chat(chat("x", model="./missing.gguf")))

    run(main)


def test_requests_at_once_share_one_load(private_home: Path, smollm2_path: Path) -> None:
    async def main() -> None:
        async with opened(private_home, smollm2_path, num_slots=4, num_ctx=512) as service:
            answers = await asyncio.gather(*(text_of(service.chat(chat(f"Say {n}"))) for n in range(6)))
            assert len(answers) == 6
            assert len(await service.list_loaded()) == 1

    run(main)


def test_a_running_model_is_not_removed(private_home: Path, smollm2_path: Path) -> None:
    async def main() -> None:
        async with opened(private_home, smollm2_path, num_slots=1, num_ctx=512) as service:
            await text_of(service.chat(chat("hi")))
            with pytest.raises(ModelInUseError):
                await asyncio.to_thread(service.store.remove, NAME)
            await service.unload(NAME)
            await asyncio.to_thread(service.store.remove, NAME)
            assert await service.list_models() == []

    run(main)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_crash_is_one_error_and_the_next_request_is_served(private_home: Path, smollm2_path: Path) -> None:
    async def main() -> None:
        async with opened(private_home, smollm2_path, num_slots=1, num_ctx=512) as service:
            stream = service.complete(CompletionRequest(NAME, "Once", SamplingParams(ignore_eos=True)))
            with pytest.raises(EngineCrashedError):
                await kill_at_first_token(service, stream)
            text, _ = await text_of(service.chat(chat("Repeat after me: good morning")))
            assert "ood morning" in text

    run(main)


def test_closing_a_stream_early_frees_the_slot(private_home: Path, smollm2_path: Path) -> None:
    async def main() -> None:
        async with opened(private_home, smollm2_path, num_slots=1, num_ctx=512) as service:
            stream = service.complete(CompletionRequest(NAME, "Once", SamplingParams(ignore_eos=True)))
            async for event in stream:
                if isinstance(event, TextDelta):
                    break
            await stream.aclose()  # type: ignore[attr-defined]
            (loaded,) = await service.list_loaded()
            assert loaded.num_active == 0
            await text_of(service.chat(chat("hi")))

    run(main)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda service: service.chat(ChatRequest(NAME, ())), InvalidRequestError),
        (lambda service: service.chat(chat("x", model="qwen3:0.6b")), OfflineError),
        (lambda service: service.chat(chat("x", model="no-such-model")), LocalLLMError),
        (
            lambda service: service.complete(CompletionRequest(NAME, "x", SamplingParams(top_p=2.0))),
            InvalidRequestError,
        ),
    ],
)
def test_what_cannot_be_done_is_a_named_error(
    private_home: Path, smollm2_path: Path, make: Callable[[Service], AsyncIterator[Event]], error: type[LocalLLMError]
) -> None:
    async def main() -> None:
        async with opened(private_home, smollm2_path, num_slots=1, num_ctx=512) as service:
            with pytest.raises(error) as caught:
                await text_of(make(service))
            assert caught.value.message
            assert caught.value.hint

    run(main)


@pytest.mark.parametrize("options", [{"num_slots": 257}, {"num_slots": -1}, {"num_batch": 8}, {"num_threads": 0}])
def test_load_options_out_of_range_are_refused(private_home: Path, smollm2_path: Path, options: dict[str, int]) -> None:
    async def main() -> None:
        async with opened(private_home, smollm2_path, **options) as service:
            with pytest.raises(InvalidRequestError, match=next(iter(options))):
                await text_of(service.chat(chat("hi")))

    run(main)


def test_a_context_that_does_not_fit_is_refused_and_a_smaller_one_is_reported(
    private_home: Path, smollm2_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine with 300 MiB free: asked for, the full context is refused; unasked, it is reduced and said so."""
    monkeypatch.setattr("localllm.devices.available_memory", lambda: 300 << 20)

    async def main() -> None:
        async with opened(private_home, smollm2_path, num_slots=1, num_ctx=8192 * 4) as service:
            with pytest.raises(OutOfMemoryError) as caught:
                await text_of(service.chat(chat("hi")))
            assert caught.value.facts["needed_bytes"] > caught.value.facts["available_bytes"]
        async with opened(private_home, smollm2_path, num_slots=1) as service:
            _, items = await text_of(service.chat(chat("hi")))
            notices = [item for item in items if isinstance(item, Notice)]
            assert [notice.kind for notice in notices] == ["context_reduced"]
            (loaded,) = await service.list_loaded()
            assert 512 <= loaded.num_ctx < 8192

    run(main)
