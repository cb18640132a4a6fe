"""A host for tests of the chat: a Backend that answers by script, and the real ChatApp over it, in no terminal.

def test_it(tmp_path):
    async def story():
        async with chat_host(tmp_path, ["Hello", gate, " there"]) as host:
            await host.say("hi")
            await wait_until(host.pilot, lambda: "Hello" in host.shown())
    run(story())
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from localllm_tui.app import ChatApp
from localllm_tui.history.history import History
from localllm_tui.options import ChatOptions, ChatSettings
from localllm_tui.screens.chat import ChatScreen
from localllm_tui.widgets.composer import Composer
from localllm_tui.widgets.transcript import Transcript
from textual.pilot import Pilot

from localllm.api import (
    Backend,
    ChatRequest,
    CompletionRequest,
    Control,
    Embeddings,
    EmbedRequest,
    Event,
    Finished,
    LoadedModel,
    ModelInfo,
    Notice,
    Progress,
    Ranking,
    Rendered,
    RerankRequest,
    TextDelta,
    Timings,
    Usage,
)
from localllm.errors import ContextLengthError, LocalLLMError, ModelNotFoundError

T = TypeVar("T")
MODEL = "smollm2:135m"
MODELS = (
    ModelInfo(MODEL, 98_362_432, "sha256:" + "b1" * 32, "hf:owner/repo", "2026-01-02T03:04:05+00:00", "llama"),
    ModelInfo("qwen3:0.6b", 397_000_000, "sha256:" + "b2" * 32, "hf:owner/other", "2026-01-03T03:04:05+00:00", "qwen3"),
)
# One thing that happens in an answer: an event, a piece of text, an error raised, or a wait until a test says go.
Step = Event | str | LocalLLMError | asyncio.Event
Script = Iterable[Step]


class ScriptedBackend:
    """Answers by scripts, one for each chat in turn; without one it says what was said last.

    A str is a TextDelta, an error is raised, an `asyncio.Event` is waited for. A script without Finished gets one.
    Requests of negative priority (titles) take no script: they are answered with `title`, or fail where that is None.
    `requests` and `asides` are what was asked; `ended` holds the ids of requests whose stream was closed early.
    A token is a character.
    """

    def __init__(self, *scripts: Script, models: Sequence[ModelInfo] = MODELS, num_ctx: int = 8192) -> None:
        self.scripts = [list(script) for script in scripts]
        self.models = list(models)
        self.num_ctx = self.num_ctx_train = num_ctx
        self.title: str | None = None
        self.loaded: dict[str, LoadedModel] = {}
        self.requests: list[ChatRequest] = []
        self.asides: list[ChatRequest] = []
        self.ended: list[str | None] = []
        self.controls: list[tuple[str, Control]] = []
        self.is_closed = False

    async def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        """The next script."""
        is_aside = request.priority < 0
        (self.asides if is_aside else self.requests).append(request)
        async for news in self.load(request.model):
            yield news
        if len(_prompt(request)) >= self.num_ctx and request.truncate == "error":
            raise too_long(len(_prompt(request)), self.num_ctx)
        steps: list[Step] = self._aside() if is_aside else self._script(request)
        num_chars, done = 0, False
        try:
            for step in steps:
                match step:
                    case asyncio.Event():
                        await step.wait()
                    case LocalLLMError():
                        raise step
                    case str():
                        num_chars += len(step)
                        yield TextDelta(step)
                    case _:
                        done = done or isinstance(step, Finished)
                        yield step
            if not done:
                num_prompt = len(_prompt(request))
                usage = Usage(
                    num_prompt_tokens=num_prompt, num_cached_tokens=num_prompt // 2, num_output_tokens=num_chars
                )
                yield Finished("stop", usage, Timings(queue_s=0.0, prompt_s=0.1, decode_s=0.5))
        except (GeneratorExit, asyncio.CancelledError):
            self.ended.append(request.request_id)
            raise

    def _script(self, request: ChatRequest) -> list[Step]:
        return self.scripts.pop(0) if self.scripts else [f"You said: {request.messages[-1].content}"]

    def _aside(self) -> list[Step]:
        return [LocalLLMError("no titles here")] if self.title is None else [self.title]

    async def complete(self, request: CompletionRequest) -> AsyncIterator[Event]:
        """The prompt again."""
        yield TextDelta(str(request.prompt))
        yield Finished("stop", Usage())

    async def tokenize(self, model: str, text: str, *, parse_special: bool = False) -> list[int]:  # noqa: ARG002
        """A token is a character."""
        return [ord(char) for char in text]

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:  # noqa: ARG002
        """And back."""
        return "".join(map(chr, tokens))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Nothing of the chat asks for this."""
        raise NotImplementedError

    async def rerank(self, request: RerankRequest) -> Ranking:
        """Nor for this."""
        raise NotImplementedError

    async def list_models(self) -> list[ModelInfo]:
        """What the test said."""
        return sorted(self.models, key=lambda model: model.name)

    async def list_loaded(self) -> list[LoadedModel]:
        """What was loaded."""
        return list(self.loaded.values())

    async def render(self, request: ChatRequest) -> Rendered:
        """The contents, one after the other."""
        prompt = _prompt(request)
        if len(prompt) >= self.num_ctx and request.truncate == "error":
            raise too_long(len(prompt), self.num_ctx)
        return Rendered(prompt, tuple(map(ord, prompt)))

    async def control(self, request_id: str, control: Control) -> bool:
        """Not known here: whoever wants an answer ended closes its stream."""
        self.controls.append((request_id, control))
        return False

    async def load(
        self,
        model: str,
        *,
        keep_alive_s: float | None = None,  # noqa: ARG002
        pin: bool | None = None,  # noqa: ARG002
        num_ctx: int | None = None,
    ) -> AsyncIterator[Progress | Notice]:
        """Loaded at once; a model that is not in the list is a ModelNotFoundError."""
        if all(model != info.name for info in self.models):
            raise ModelNotFoundError(f"no model {model}", hint="`localllm search` lists some", name=model)
        if num_ctx is not None:
            self.num_ctx = num_ctx
            self.loaded.pop(model, None)
        if model not in self.loaded:
            yield Progress("load", model, 1.0, 1.0, "fraction")
            self.loaded[model] = LoadedModel(
                model, 1, self.num_ctx, 4, self.num_ctx_train, "CPU", load_s=0.25, bytes_by_device={"CPU": 180_000_000}
            )

    async def pull(self, model: str) -> AsyncIterator[Progress]:
        """Two steps, then it is there."""
        yield Progress("download", model, 500, 1000)
        yield Progress("download", model, 1000, 1000)
        self.models.append(ModelInfo(model, 1000, "sha256:" + "22" * 32, "hf:owner/new", "2026-01-01T00:00:00+00:00"))

    async def unload(self, model: str) -> None:
        """Out of memory."""
        self.loaded.pop(model, None)

    async def close(self) -> None:
        """The app ended."""
        self.is_closed = True


@dataclass
class Host:
    """An app under test."""

    app: ChatApp
    pilot: Pilot[int]
    backend: ScriptedBackend

    @property
    def history(self) -> History:
        """The app's database."""
        return self.app.history

    @property
    def screen(self) -> ChatScreen:
        """The chat, also while something lies over it."""
        return next(screen for screen in self.app.screen_stack if isinstance(screen, ChatScreen))

    @property
    def composer(self) -> Composer:
        """The prompt."""
        return self.screen.query_one(Composer)

    def shown(self) -> str:
        """The text of all turns on the screen."""
        from localllm_tui.widgets.message_view import MessageView

        return "\n".join(view.plain_text() for view in self.screen.query_one(Transcript).query(MessageView))

    async def say(self, text: str) -> None:
        """Type and press Enter."""
        self.composer.focus()
        self.composer.text = text
        await self.pilot.pause()
        await self.pilot.press("enter")

    async def until(self, predicate: Callable[[], object]) -> None:
        """See `wait_until`."""
        await wait_until(self.pilot, predicate)


@contextlib.asynccontextmanager
async def chat_host(
    tmp_path: Path,
    *scripts: Script,
    backend: Backend | None = None,
    settings: ChatSettings | None = None,
    size: tuple[int, int] = (100, 30),
    database: Path | None = None,
    **options: Any,
) -> AsyncIterator[Host]:
    """The app over a ScriptedBackend (or `backend`), started, with its Backend made. `options` are ChatOptions's.

    Two hosts of one `tmp_path` after each other share the database, as two starts of the program do.
    """
    scripted = ScriptedBackend(*scripts)
    used: Backend = scripted if backend is None else backend
    chosen = ChatOptions(
        model=options.pop("model", MODEL),
        database=tmp_path / "chat.db" if database is None else database,
        settings=ChatSettings() if settings is None else settings,
        **options,
    )
    app = ChatApp(lambda: used, chosen)
    async with app.run_test(size=size) as pilot:
        await app.backend()
        await pilot.pause()
        yield Host(app, pilot, used if isinstance(used, ScriptedBackend) else scripted)


def _prompt(request: ChatRequest) -> str:
    return "".join(message.content for message in request.messages)


def too_long(num_prompt: int, num_ctx: int) -> ContextLengthError:
    """The error of a prompt that does not fit."""
    message = f"the prompt takes {num_prompt} tokens, the context {num_ctx}"
    return ContextLengthError(message, hint="shorten it", num_prompt_tokens=num_prompt, num_ctx=num_ctx)


async def wait_until(pilot: Pilot[Any], predicate: Callable[[], object], limit_s: float = 10.0) -> None:
    """Let the app run until `predicate()` is true. Fails after `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while not predicate():
        assert time.monotonic() < deadline, f"still not so after {limit_s:g} s"
        await pilot.pause(0.01)


def run(story: Coroutine[Any, Any, T], limit_s: float = 60.0) -> T:
    """Run a test's story to its end, within `limit_s` seconds."""

    async def bounded() -> T:
        return await asyncio.wait_for(story, limit_s)

    return asyncio.run(bounded())
