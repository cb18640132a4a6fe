"""What every Backend promises, over Service and over Client: real weights, a real child, a real daemon."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.api import (
    Backend,
    ChatRequest,
    CompletionRequest,
    EmbedRequest,
    Event,
    Finished,
    JsonSchema,
    LoadOptions,
    Message,
    Progress,
    PromptLogprobs,
    RerankRequest,
    SamplingParams,
    TextDelta,
)
from localllm.api.finder import HasFinder
from localllm.api.keeper import HasKeeper, NewModel
from localllm.client import Client
from localllm.config import Settings
from localllm.daemon.run import ServeOptions
from localllm.errors import (
    ContextLengthError,
    InvalidRequestError,
    LocalLLMError,
    ModelInUseError,
    ModelNameError,
    ModelNotFoundError,
    OfflineError,
)
from localllm.service import Service
from localllm.store.describe import describe
from tests.daemon.serving import serving

pytestmark = pytest.mark.weights

NAME = "smollm2:135m"
GREEDY = SamplingParams(temperature=0, max_tokens=12)


class Subject:
    """A Backend, and the event loop it is used in."""

    def __init__(self, backend: Backend, runner: asyncio.Runner) -> None:
        self.backend = backend
        self._runner = runner

    def run(self, main: Callable[[Backend], Awaitable[Any]]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(120):
                return await main(self.backend)

        return self._runner.run(bounded())


@pytest.fixture(scope="module", params=["service", "client"])
def subject(
    request: pytest.FixtureRequest, smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("home")
    patch.setenv("LOCALLLM_HOME", str(home))
    service = Service(
        Settings(store_dir=home / "store", offline=True),
        load_options=LoadOptions(num_ctx=512, num_slots=2, num_threads=1),
    )
    blob = service.store.ingest(smollm2_path, digest=None, link=True)
    service.store.add(describe(NAME, "test", [blob], [smollm2_path]))
    with contextlib.ExitStack() as stack:
        stack.callback(patch.undo)
        runner = stack.enter_context(asyncio.Runner())
        if request.param == "service":
            stack.callback(lambda: runner.run(service.close()))
            yield Subject(service, runner)
            return
        options = ServeOptions(host="127.0.0.1", port=0, default_model=NAME)
        served = stack.enter_context(serving(service, options))
        yield Subject(Client(served.url), runner)


def chat(text: str, **changes: Any) -> ChatRequest:
    return ChatRequest(changes.pop("model", NAME), (Message("user", text),), changes.pop("sampling", GREEDY), **changes)


async def all_of(events: AsyncIterator[Event]) -> list[Event]:
    found = [event async for event in events]
    assert [isinstance(event, Finished) for event in found] == [False] * (len(found) - 1) + [True]
    return found


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_it_is_a_backend(subject: Subject) -> None:
    assert isinstance(subject.backend, Backend)


def test_a_load_tells_how_far_it_is_and_then_the_model_is_there(subject: Subject) -> None:
    async def main(backend: Backend) -> None:
        with contextlib.suppress(ModelNotFoundError):
            await backend.unload(NAME)
        news = [item async for item in backend.load(NAME, keep_alive_s=300, pin=True)]
        steps = [item.done for item in news if isinstance(item, Progress)]
        assert steps == sorted(steps)
        assert steps[-1] == 1.0
        (loaded,) = await backend.list_loaded()
        assert (loaded.name, loaded.num_ctx, loaded.num_slots, loaded.state) == (NAME, 512, 2, "ready")
        assert loaded.pinned
        assert loaded.expires_in_s is None
        assert [item async for item in backend.load(NAME, pin=False)] == []
        (loaded,) = await backend.list_loaded()
        assert not loaded.pinned
        assert loaded.expires_in_s is not None
        assert 290 < loaded.expires_in_s <= 300

    subject.run(main)


def test_a_chat_answers_and_says_what_it_took(subject: Subject) -> None:
    async def main(backend: Backend) -> None:
        events = await all_of(backend.chat(chat("Repeat after me: good morning")))
        assert "ood morning" in text_of(events)
        finished = events[-1]
        assert isinstance(finished, Finished)
        assert finished.usage.num_prompt_tokens > 10
        assert 0 < finished.usage.num_output_tokens <= 12
        assert finished.timings.decode_s > 0
        again = await all_of(backend.chat(chat("Repeat after me: good morning")))
        assert text_of(again) == text_of(events)

    subject.run(main)


def test_a_completion_with_scores_and_a_form(subject: Subject) -> None:
    async def main(backend: Backend) -> None:
        sampling = SamplingParams(temperature=0, max_tokens=4, logprobs=2, logit_bias={0: -100.0})
        request = CompletionRequest(NAME, "The capital of France is", sampling, prompt_logprobs=1)
        events = await all_of(backend.complete(request))
        assert "Paris" in text_of(events)
        scored = [p for event in events if isinstance(event, TextDelta) for p in event.logprobs]
        assert len(scored) == 4
        assert all(isinstance(p.text, bytes) and len(p.top) == 2 for p in scored)
        assert any(isinstance(event, PromptLogprobs) for event in events)
        schema = JsonSchema({"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"],
                             "additionalProperties": False})  # fmt: skip
        bound = await all_of(backend.complete(CompletionRequest(NAME, "x", GREEDY, constraint=schema)))
        assert text_of(bound).replace(" ", "") == '{"n":7}'

    subject.run(main)


def test_a_receipt_comes_through(subject: Subject) -> None:
    async def main(backend: Backend) -> None:
        events = await all_of(backend.chat(chat("hi", receipt=True, deterministic=True)))
        assert isinstance(events[-1], Finished)
        assert events[-1].receipt is not None
        assert events[-1].receipt.deterministic
        assert events[-1].receipt.sampling.temperature == 0

    subject.run(main)


def test_tokens_and_prompts(subject: Subject) -> None:
    async def main(backend: Backend) -> None:
        tokens = await backend.tokenize(NAME, "héllo <|im_end|>")
        assert await backend.detokenize(NAME, tokens) == "héllo <|im_end|>"
        special = await backend.tokenize(NAME, "<|im_end|>", parse_special=True)
        assert len(special) == 1
        rendered = await backend.render(chat("hi"))
        assert rendered.prompt.endswith("<|im_start|>assistant\n")
        assert special[0] in rendered.tokens

    subject.run(main)


def test_closing_a_stream_ends_the_request(subject: Subject) -> None:
    async def main(backend: Backend) -> None:
        endless = SamplingParams(ignore_eos=True, max_tokens=400)
        stream = backend.complete(CompletionRequest(NAME, "Once", endless))
        async for event in stream:
            if isinstance(event, TextDelta):
                break
        await stream.aclose()  # type: ignore[attr-defined]
        async with asyncio.timeout(5):
            while any(model.num_active for model in await backend.list_loaded()):
                await asyncio.sleep(0.01)

    subject.run(main)


def test_a_running_request_is_steered_by_its_name(subject: Subject) -> None:
    async def main(backend: Backend) -> None:
        assert not await backend.control("nobody", "stop")
        endless = SamplingParams(ignore_eos=True, max_tokens=400)
        events: list[Event] = []
        async for event in backend.chat(chat("Tell a story", sampling=endless, request_id="mine")):
            if isinstance(event, TextDelta) and not any(isinstance(e, TextDelta) for e in events):
                assert await backend.control("mine", "stop")
            events.append(event)
        assert isinstance(events[-1], Finished)
        assert events[-1].usage.num_output_tokens < 400

    subject.run(main)


def test_installed_models(subject: Subject) -> None:
    async def main(backend: Backend) -> None:
        (model,) = await backend.list_models()
        assert model.name == NAME
        assert model.num_params == 134_515_008
        assert model.capabilities

    subject.run(main)


def test_the_models_on_disk_are_kept(subject: Subject) -> None:
    async def main(backend: Backend) -> None:
        assert isinstance(backend, HasKeeper)
        keeper = backend.keeper
        (listed,) = await backend.list_models()
        assert await keeper.info("smollm2") == listed
        details = await keeper.details(NAME, tensors=True)
        assert details.info == listed
        assert details.metadata["general.architecture"] == "llama"
        assert "im_start" in (details.template or "")
        assert len(details.tensors) == 272
        assert (await keeper.details(NAME)).tensors == ()
        await keeper.copy(NAME, "second")
        made = await keeper.create(NewModel("third", source=NAME, system="Be brief.", sampling=GREEDY, num_ctx=256))
        assert (made.name, made.digest) == ("third", listed.digest)
        assert {model.name for model in await backend.list_models()} == {NAME, "second", "third"}
        kept = await keeper.details("third")
        assert (kept.system, kept.sampling, kept.num_ctx) == ("Be brief.", GREEDY, 256)
        assert await keeper.has_blob(listed.digest)
        assert not await keeper.has_blob("sha256:" + "0" * 64)
        async for _ in backend.load(NAME):
            pass
        with pytest.raises(ModelInUseError):
            await keeper.remove(NAME)
        await keeper.remove("second")
        await keeper.remove("third")
        (left,) = await backend.list_models()
        assert left == listed

    subject.run(main)


def test_bytes_are_taken_by_their_digest(subject: Subject) -> None:
    data = b"not a model at all" * 100_000
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 60_000):
            yield data[start : start + 60_000]

    async def main(backend: Backend) -> None:
        assert isinstance(backend, HasKeeper)
        keeper = backend.keeper
        with pytest.raises(InvalidRequestError):
            await keeper.put_blob("sha256:" + "1" * 64, pieces())
        assert await keeper.put_blob(digest, pieces(), len(data))
        assert await keeper.has_blob(digest)
        assert not await keeper.put_blob(digest, pieces())
        with pytest.raises(InvalidRequestError):
            await keeper.create(NewModel("no-model", blobs=(("x.gguf", digest),)))

    subject.run(main)


def test_what_may_be_pulled_is_judged(subject: Subject) -> None:
    async def main(backend: Backend) -> None:
        assert isinstance(backend, HasFinder)
        offers = await backend.finder.catalogue("smollm2")
        assert {offer.name for offer in offers} >= {NAME, "smollm2:360m"}
        assert [offer.name for offer in offers if offer.installed] == [NAME]
        long = SamplingParams(temperature=0, max_tokens=48, ignore_eos=True)
        await all_of(backend.chat(chat("Count.", sampling=long, speculate=False)))
        own, other = await backend.finder.offer("smollm2"), await backend.finder.offer("smollm2:360m")
        assert own.fit is not None
        assert (own.fit.basis, own.fit.verdict) == ("header", "fits")
        assert own.speed is not None
        assert (own.speed.basis, own.speed.source) == ("measured", "answers")
        assert other.speed is not None
        assert (other.speed.basis, other.speed.model) == ("scaled", NAME)
        assert other.speed.tokens_per_s < own.speed.tokens_per_s
        with pytest.raises(ModelNotFoundError):
            await backend.finder.offer("nobody")

    subject.run(main)


ERRORS: list[tuple[Callable[[Backend], Any], type[LocalLLMError], str]] = [
    (lambda b: all_of(b.chat(ChatRequest(NAME, ()))), InvalidRequestError, "without messages"),
    (lambda b: all_of(b.chat(chat("x", sampling=SamplingParams(top_p=2.0)))), InvalidRequestError, "top_p"),
    (lambda b: all_of(b.chat(chat("x", n=1000))), InvalidRequestError, "n is 1000"),
    (lambda b: all_of(b.chat(chat("word " * 900))), ContextLengthError, ""),
    (lambda b: all_of(b.chat(chat("x", model="../no"))), LocalLLMError, ""),
    (lambda b: all_of(b.chat(chat("x", model="hf:"))), ModelNameError, ""),
    (lambda b: b.unload("tiny"), ModelNotFoundError, "not loaded"),
    (lambda b: b.embed(EmbedRequest(NAME, ("x",))), InvalidRequestError, ""),
    (lambda b: b.rerank(RerankRequest(NAME, "q", ("d",))), InvalidRequestError, ""),
    (lambda b: _drained(b.pull("qwen3:0.6b")), OfflineError, ""),
    (lambda b: _drained(b.load("no-such-model")), ModelNotFoundError, "no-such-model"),
]


async def _drained(items: AsyncIterator[Any]) -> None:
    async for _ in items:
        pass


@pytest.mark.parametrize(("ask", "error", "words"), ERRORS)
def test_errors_have_their_class_and_facts(
    subject: Subject, ask: Callable[[Backend], Any], error: type[LocalLLMError], words: str
) -> None:
    async def main(backend: Backend) -> None:
        with pytest.raises(error, match=words or None) as caught:
            await ask(backend)
        assert caught.value.message
        if error is ContextLengthError:
            assert caught.value.facts["num_ctx"] == 512
            assert caught.value.facts["num_prompt_tokens"] > 512

    subject.run(main)


def test_a_load_with_another_context_loads_again_and_that_context_stays(subject: Subject) -> None:
    async def main(backend: Backend) -> None:
        assert not [item async for item in backend.load(NAME) if isinstance(item, Finished)]
        before = (await backend.list_loaded())[0].num_ctx
        assert not [item async for item in backend.load(NAME, num_ctx=1024) if isinstance(item, Finished)]
        (loaded,) = await backend.list_loaded()
        assert (before, loaded.num_ctx) == (512, 1024)
        await all_of(backend.chat(chat("hi", keep_alive_s=-1)))
        assert (await backend.list_loaded())[0].pid == loaded.pid
        await backend.unload(NAME)
        assert not [item async for item in backend.load(NAME) if isinstance(item, Finished)]
        assert (await backend.list_loaded())[0].num_ctx == 1024
        with pytest.raises(InvalidRequestError, match="num_ctx is 0"):
            assert not [item async for item in backend.load(NAME, num_ctx=0) if isinstance(item, Finished)]
        assert not [item async for item in backend.load(NAME, num_ctx=before) if isinstance(item, Finished)]

    subject.run(main)


def test_an_unloaded_model_is_gone(subject: Subject) -> None:
    async def main(backend: Backend) -> None:
        await all_of(backend.chat(chat("hi", keep_alive_s=-1)))
        await backend.unload(NAME)
        assert await backend.list_loaded() == []
        await all_of(backend.chat(chat("hi", keep_alive_s=0)))
        async with asyncio.timeout(5):
            while await backend.list_loaded():
                await asyncio.sleep(0.01)

    subject.run(main)
