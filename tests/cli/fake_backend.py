"""A Backend in memory with scripted answers: real events, no engine. Also the program that runs the command over it.

`python fake_backend.py [localllm arguments]` is `localllm` with this Backend. The words of the last message are the
script: `echo X` answers X, `fail` raises, `think`, `slow`, `long`, `escape` and `call` do what they say.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import sys
from collections.abc import AsyncIterator, Iterable, Sequence

from localllm.api import (
    Backend,
    ChatRequest,
    CompletionRequest,
    Control,
    Embeddings,
    EmbedRequest,
    Event,
    Finished,
    FinishReason,
    LoadedModel,
    LoadOptions,
    ModelInfo,
    Notice,
    Progress,
    PromptUsage,
    Ranked,
    Ranking,
    ReasoningDelta,
    Rendered,
    RerankRequest,
    TextDelta,
    Timings,
    ToolCall,
    ToolCallEvent,
    Usage,
)
from localllm.cli import main
from localllm.config import Settings
from localllm.errors import DownloadError, EngineCrashedError, InvalidRequestError, ModelNotFoundError, OfflineError

MODELS = (
    ModelInfo(
        name="smollm2:135m",
        size_bytes=98_362_432,
        digest="sha256:" + "b1" * 32,
        origin="hf:owner/repo/file.gguf@rev",
        modified="2026-01-02T03:04:05+00:00",
        architecture="llama",
        num_params=134_515_008,
        quant="Q4_1",
        num_ctx_train=8192,
        licence="apache-2.0",
        capabilities=("chat",),
    ),
    ModelInfo(name="tiny", size_bytes=1234, digest="sha256:" + "00" * 32, origin="./tiny.gguf", modified="2026-01-01"),
    ModelInfo(
        name="evil\x1b]0;owned\x07", size_bytes=1, digest="sha256:" + "11" * 32, origin="", modified="2026-01-01"
    ),
)


class FakeBackend:
    """Answers by script. `log` records what was asked, also that a stream was closed early."""

    def __init__(self, settings: Settings, load_options: LoadOptions) -> None:
        self.settings = settings
        self.load_options = load_options
        self.models = {model.name: model for model in MODELS}
        self.loaded: list[str] = []
        self.log: list[str] = []

    async def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        async for event in self._answer(request.model, request.messages[-1].content, request):
            yield event

    async def complete(self, request: CompletionRequest) -> AsyncIterator[Event]:
        prompt = request.prompt
        words = prompt if isinstance(prompt, str) else f"long {request.sampling.max_tokens}"
        async for event in self._answer(request.model, words, request):
            yield event

    async def _answer(self, model: str, words: str, request: ChatRequest | CompletionRequest) -> AsyncIterator[Event]:
        async for step in self.load(model):
            yield step
        verb, _, rest = words.partition(" ")
        num_tokens = 0
        reason: FinishReason = "stop"
        try:
            if verb == "fail":
                raise EngineCrashedError("the engine died", hint="ask again")
            if verb == "bug":
                raise RuntimeError("a bug in the program")
            if request.prompt_usage:
                yield PromptUsage(10, 4)
            if verb == "interrupted":
                yield TextDelta("half an ans")
                raise EngineCrashedError("the engine died midway", hint="ask again")
            if verb == "think":
                yield ReasoningDelta("let me ")
                yield ReasoningDelta("see\x1b[2J")
            if verb == "call":
                yield ToolCallEvent(ToolCall("1", "add", '{"a":1}'))
            if verb == "notice":
                yield Notice("truncated", "2 turns were dropped", {"num_dropped": 2})
            for delta in self._deltas(verb, rest, request):
                num_tokens += 1
                yield TextDelta(delta)
                if verb == "slow":
                    await asyncio.sleep(0.02)
                elif num_tokens % 64 == 0:
                    await asyncio.sleep(0)
            if verb == "hang":
                yield TextDelta("waiting")
                await asyncio.Event().wait()
            if verb == "cut":
                reason = "length"
            usage = Usage(num_prompt_tokens=10, num_cached_tokens=4, num_output_tokens=num_tokens)
            yield Finished(reason, usage, Timings(queue_s=0.0, prompt_s=0.1, decode_s=0.5))
        except (GeneratorExit, asyncio.CancelledError):
            self.log.append("closed")
            raise

    def _deltas(self, verb: str, rest: str, request: ChatRequest | CompletionRequest) -> Iterable[str]:
        if verb == "slow":
            return [f"word{n} " for n in range(int(rest) if rest.isdigit() else 500)]
        if verb == "long":
            return itertools.repeat("x", int(rest))
        if verb == "blocks":
            return itertools.repeat("x" * 1000, int(rest))
        if verb == "escape":
            return ["a\x1b]0;owned\x07b\r\nc\td\x9b2J"]
        if verb == "messages" and isinstance(request, ChatRequest):
            return [" | ".join(f"{m.role}={m.content}" for m in request.messages)]
        if verb == "sampling":
            return [repr(request.sampling)]
        if verb == "request":
            return [repr(request)]
        if verb == "settings":
            return [f"{self.settings!r} {self.load_options!r}"]
        if verb in {"hang", "call"}:
            return []
        said = rest if verb == "echo" else f"you said: {verb} {rest}".rstrip()
        return [part for word in said.split(" ") for part in (word, " ")][:-1]

    async def tokenize(self, model: str, text: str, *, parse_special: bool = False) -> list[int]:  # noqa: ARG002
        return [ord(char) for char in text]

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:  # noqa: ARG002
        return "".join(map(chr, tokens))

    async def render(self, request: ChatRequest) -> Rendered:
        prompt = "".join(f"{message.role}: {message.content}\n" for message in request.messages)
        return Rendered(prompt, tuple(map(ord, prompt)))

    async def control(self, request_id: str, control: Control) -> bool:  # noqa: ARG002
        return False

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Each text's length and its number of words."""
        texts = [item if isinstance(item, str) else "".join(map(chr, item)) for item in request.inputs]
        if "fail" in texts:
            raise InvalidRequestError("this model is not made for embeddings", hint="use an embedding model")
        vectors = [struct.pack("<2f", len(text), len(text.split())) for text in texts]
        return Embeddings(tuple(vectors), 2, tuple(map(len, texts)), num_truncated=int(request.truncate))

    async def rerank(self, request: RerankRequest) -> Ranking:
        """The longest document first."""
        documents = request.documents
        best = sorted(range(len(documents)), key=lambda index: -len(documents[index]))[: request.top_n]
        ranked = tuple(Ranked(index, len(documents[index]) / 100) for index in best)
        return Ranking(ranked, sum(map(len, documents)), is_probability=True, num_truncated=int(request.truncate))

    async def list_models(self) -> list[ModelInfo]:
        return sorted(self.models.values(), key=lambda model: model.name)

    async def list_loaded(self) -> list[LoadedModel]:
        return [
            LoadedModel(name, 1, num_ctx=8192, num_slots=1, num_ctx_train=8192, device="CPU", load_s=0.25)
            for name in self.loaded
        ]

    async def load(
        self,
        model: str,
        *,
        keep_alive_s: float | None = None,
        pin: bool | None = None,
        num_ctx: int | None = None,  # noqa: ARG002
    ) -> AsyncIterator[Progress | Notice]:
        if keep_alive_s is not None or pin is not None:
            self.log.append(f"load {model} keep_alive_s={keep_alive_s} pin={pin}")
        if model in self.loaded:
            return
        async for step in self.pull(model):
            yield step
        yield Progress("load", model, 0.5, 1.0, "fraction")
        yield Progress("load", model, 1.0, 1.0, "fraction")
        if model == "tiny":
            yield Notice("context", "the context is 512 tokens, for want of memory", {"num_ctx": 512})
        self.loaded.append(model)

    async def pull(self, model: str) -> AsyncIterator[Progress]:
        if model in self.models or f"{model}:135m" in self.models:
            return
        if self.settings.offline:
            raise OfflineError(f"{model} is not here", hint="leave out --offline")
        if model == "unreachable":
            raise DownloadError("no source answered", hint="try again later")
        if model != "new":
            raise ModelNotFoundError(f"no model {model}", hint="`localllm search` lists some")
        for done in (0, 500, 1000):
            yield Progress("download", model, done, 1000)
            await asyncio.sleep(0)
        self.models[model] = ModelInfo(model, 1000, "sha256:" + "22" * 32, "hf:owner/new", "2026-01-01")

    async def unload(self, model: str) -> None:
        self.loaded.remove(model)

    async def close(self) -> None:
        self.loaded.clear()


def make_backend(settings: Settings, load_options: LoadOptions) -> Backend:
    """The factory that `main` is given."""
    return FakeBackend(settings, load_options)


if __name__ == "__main__":
    sys.exit(main(backend_factory=make_backend))
