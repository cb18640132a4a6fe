"""EngineProcess: the parent's proxy to one engine child. Owns the child's life; imports nothing that runs in it.

The event loop reads the child's frames; a writer thread feeds its stdin, so that a child that has stopped reading never
blocks the loop. End of file, a kill or silence end every request with one error.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from typing import IO

from localllm.api import (
    ChatRequest,
    CompletionRequest,
    Control,
    Embeddings,
    EmbedRequest,
    Event,
    Finished,
    Ranking,
    Rendered,
    RerankRequest,
    check_generation,
    check_sampling,
)
from localllm.engine import children, frames
from localllm.engine.ending import crash_of
from localllm.engine.pipes import read_frames
from localllm.errors import EngineCrashedError, EngineError, InvalidRequestError, LocalLLMError

logger = logging.getLogger(__name__)

Item = Event | LocalLLMError

PING_S = 1.0
SILENCE_S = 15.0
# A child that starts imports its libraries first, perhaps from a slow disk.
LOAD_SILENCE_S = 60.0
STUCK_S = 600.0
# Templates, grammars and tokenizers have limits of a few seconds: past this, a thread of the child is gone.
STUCK_TEXT_S = 25.0
CLOSE_S = 3.0
MAX_REQUEST_CHARS = frames.MAX_FRAME_BYTES // 8


class EngineProcess:
    """A loaded model in a child process.

    `start` loads it; `chat`, `complete`, `tokenize` and `detokenize` may then be called at once by many tasks of one
    event loop. `on_exit(error)` is called once when the child is gone, whatever the reason.
    """

    def __init__(
        self,
        spec: frames.LoadSpec,
        *,
        on_exit: Callable[[LocalLLMError], None] | None = None,
        silence_s: float = SILENCE_S,
        load_silence_s: float = LOAD_SILENCE_S,
        stuck_s: float = STUCK_S,
        stuck_text_s: float = STUCK_TEXT_S,
    ) -> None:
        self.spec = spec
        self.info: frames.EngineInfo | None = None
        self.pong = frames.Pong(0.0, 0, 0)
        self._on_exit = on_exit
        self._silence_s = silence_s
        self._load_silence_s = load_silence_s
        self._stuck_s = stuck_s
        self._stuck_text_s = stuck_text_s
        self._loop = asyncio.get_running_loop()
        self._child = children.take()
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._log: collections.deque[str] = collections.deque(maxlen=40)
        self._queues: dict[int, asyncio.Queue[Item]] = {}
        self._replies: dict[int, asyncio.Future[frames.Value]] = {}
        self._names: dict[str, int] = {}
        self._loading: asyncio.Queue[float | LocalLLMError | None] = asyncio.Queue()
        self._next_id = 0
        self._last_heard = self._loop.time()
        self._verdict: LocalLLMError | None = None
        self._gone = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._reaping: asyncio.Task[None] | None = None
        self._reading = False
        threading.Thread(target=self._write, args=(self._child.stdin,), daemon=True).start()
        self._log_reader = threading.Thread(target=self._read_log, args=(self._child.stderr,), daemon=True)
        self._log_reader.start()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    @property
    def num_active(self) -> int:
        """Requests under way."""
        return len(self._queues)

    @property
    def is_alive(self) -> bool:
        """Whether the child can take requests."""
        return self._verdict is None

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> AsyncIterator[float]:
        """Load the model; yields the fraction loaded. Raises EngineLoadError or EngineCrashedError."""
        self._begin_reading()
        self._send(frames.Load(self.spec))
        self._watch = self._loop.create_task(self._watch_over())
        while (step := await self._loading.get()) is not None:
            if isinstance(step, LocalLLMError):
                await self._gone.wait()
                raise step
            yield step

    async def close(self) -> None:
        """End the child; running requests end in an error."""
        if self._verdict is None:
            self._verdict = EngineError("the engine was unloaded")
        self._outbox.put(None)
        self._begin_reading()
        try:
            await asyncio.wait_for(self._gone.wait(), CLOSE_S)
        except TimeoutError:
            self._child.kill()
            await self._gone.wait()
        if self._watch is not None:
            self._watch.cancel()

    # --- requests -------------------------------------------------------------------------------------------------

    def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        """Answer a conversation; ends in one Finished or raises one error. Closing the iterator aborts the request."""
        check_generation(request)
        check_sampling(request.sampling)
        self._check_generates("chat")
        return self._stream(lambda request_id: frames.Chat(request_id, request), request.request_id)

    def complete(self, request: CompletionRequest) -> AsyncIterator[Event]:
        """Continue raw text, likewise."""
        check_generation(request)
        check_sampling(request.sampling)
        self._check_generates("continue a text")
        return self._stream(lambda request_id: frames.Complete(request_id, request), request.request_id)

    def steer(self, name: str, control: Control) -> bool:
        """Change the course of the request of that name. False: there is none."""
        request_id = self._names.get(name)
        if request_id is not None:
            self._send(frames.Steer(request_id, control))
        return request_id is not None

    async def render(self, request: ChatRequest) -> Rendered:
        """The prompt that `chat` would give the model."""
        value = await self._ask(lambda request_id: frames.Render(request_id, request))
        assert isinstance(value, Rendered)
        return value

    async def tokenize(self, text: str, parse_special: bool = False) -> list[int]:
        """Token ids of a text, without BOS."""
        value = await self._ask(lambda request_id: frames.Tokenize(request_id, text, parse_special))
        assert isinstance(value, list)
        return value

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids."""
        value = await self._ask(lambda request_id: frames.Detokenize(request_id, tokens))
        assert isinstance(value, str)
        return value

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Texts to vectors. Cancelling the task aborts the request."""
        _check_size(request.inputs)
        value = await self._ask(lambda request_id: frames.Embed(request_id, request), aborts=True)
        assert isinstance(value, Embeddings)
        return value

    async def rerank(self, request: RerankRequest) -> Ranking:
        """Documents in the order in which they answer a query, likewise."""
        _check_size((request.query, *request.documents))
        value = await self._ask(lambda request_id: frames.Rerank(request_id, request), aborts=True)
        assert isinstance(value, Ranking)
        return value

    def _check_generates(self, what: str) -> None:
        if self.spec.task != "generate":
            verb = "embeds texts" if self.spec.task == "embed" else "ranks documents"
            raise InvalidRequestError(
                f"this model {verb}, it cannot {what}",
                hint=f"`localllm {self.spec.task}` uses it; for answers take a chat model",
                task=self.spec.task,
            )

    async def _stream(self, make: Callable[[int], frames.Request], name: str | None) -> AsyncIterator[Event]:
        self._check_alive()
        request_id = self._new_id()
        if name is not None:
            self._names[name] = request_id
        items: asyncio.Queue[Item] = asyncio.Queue()
        self._queues[request_id] = items
        self._send(make(request_id))
        ended = False
        try:
            while not ended:
                item = await items.get()
                if isinstance(item, LocalLLMError):
                    ended = True
                    raise item
                ended = isinstance(item, Finished)
                if ended:
                    self._queues.pop(request_id, None)
                yield item
        finally:
            self._queues.pop(request_id, None)
            if name is not None and self._names.get(name) == request_id:
                del self._names[name]
            if not ended:
                self._send(frames.Abort(request_id))

    async def _ask(self, make: Callable[[int], frames.Request], *, aborts: bool = False) -> frames.Value:
        """Send a request and wait for its one reply. `aborts`: tell the child when nobody waits any more."""
        self._check_alive()
        request_id = self._new_id()
        future: asyncio.Future[frames.Value] = self._loop.create_future()
        self._replies[request_id] = future
        self._send(make(request_id))
        try:
            return await future
        except asyncio.CancelledError:
            if aborts:
                self._send(frames.Abort(request_id))
            raise
        finally:
            self._replies.pop(request_id, None)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _check_alive(self) -> None:
        if self._verdict is not None:
            raise self._verdict

    def _send(self, frame: frames.Request) -> None:
        self._outbox.put(frames.encode(frame))

    # --- the event loop's side of the threads ---------------------------------------------------------------------

    def _on_frame(self, frame: frames.Answer) -> None:
        self._last_heard = self._loop.time()
        match frame:
            case frames.Step(events):
                for request_id, items in events:
                    if (stream := self._queues.get(request_id)) is not None:
                        for item in items:
                            stream.put_nowait(item)
            case frames.Failed(-1, info):
                self._verdict = frames.unpack_error(info)
                self._loading.put_nowait(self._verdict)
            case frames.Failed(request_id, info):
                self._fail(request_id, frames.unpack_error(info))
            case frames.Reply(request_id, value) | frames.Embedded(request_id, value) | frames.Ranks(request_id, value):
                if (future := self._replies.get(request_id)) is not None and not future.done():
                    future.set_result(value)
            case frames.Loading(fraction):
                self._loading.put_nowait(fraction)
            case frames.Ready(info):
                self.info = info
                self._loading.put_nowait(None)
            case frames.Pong():
                self.pong = frame

    def _begin_reading(self) -> None:
        if not self._reading:
            self._reading = True
            assert self._child.stdout is not None
            read_frames(self._loop, self._child.stdout, self._on_frame, self._on_eof)

    def _on_eof(self, failure: Exception | None) -> None:
        """Nothing more will come: the child ends, or is ended when it wrote nonsense."""
        if failure is not None:
            logger.error("unreadable frame from engine %d: %s", self._child.pid, failure)
            self._child.kill()
        self._reaping = self._loop.create_task(self._reap())

    async def _reap(self) -> None:
        try:
            code = await asyncio.to_thread(self._child.wait)
            await asyncio.to_thread(self._log_reader.join, 1.0)
        except RuntimeError:
            # The event loop is being closed, and its threads are gone: nobody is left to wait for but the child.
            self._child.kill()
            code = self._child.wait()
        self._on_end(code)

    def _on_end(self, code: int) -> None:
        """The child is gone: end everything that waits for it, once."""
        if self._verdict is None:
            self._verdict = crash_of(code, list(self._log))
        self._loading.put_nowait(self._verdict)
        for request_id in [*self._queues, *self._replies]:
            self._fail(request_id, self._verdict)
        self._outbox.put(None)
        self._gone.set()
        if self._on_exit is not None:
            self._on_exit(self._verdict)

    def _fail(self, request_id: int, error: LocalLLMError) -> None:
        if (stream := self._queues.pop(request_id, None)) is not None:
            stream.put_nowait(error)
        elif (future := self._replies.get(request_id)) is not None and not future.done():
            future.set_exception(error)

    async def _watch_over(self) -> None:
        """Ask a busy child for a sign of life; kill one that gives none, or whose step never ends."""
        while not self._gone.is_set():
            pause_s, began = min(PING_S, self._silence_s / 4), self._loop.time()
            await asyncio.sleep(pause_s)
            # Where this loop itself was held up, or the machine slept, nobody could hear the child.
            now = self._loop.time()
            self._last_heard = min(now, self._last_heard + max(0.0, now - began - pause_s))
            is_loading = self.info is None
            if not is_loading and not self._queues and not self._replies:
                self._last_heard = now
                continue
            self._send(frames.Ping())
            silent_s = now - self._last_heard
            limit_s = self._load_silence_s if is_loading else self._silence_s
            reason = ""
            if silent_s > limit_s:
                reason = f"silent for {silent_s:.0f} s"
            elif self.pong.step_s > self._stuck_s:
                reason = "stuck in one step"
            elif self.pong.text_s > self._stuck_text_s:
                reason = "stuck in the text of one prompt"
            if reason:
                hint = "the next request starts a new engine"
                self._verdict = EngineCrashedError(
                    f"the engine hung ({reason}) and was ended", hint=hint, signal="SIGKILL", hung=True
                )
                self._child.kill()
                return

    # --- threads --------------------------------------------------------------------------------------------------

    def _write(self, stream: IO[bytes]) -> None:
        try:
            while (data := self._outbox.get()) is not None:
                stream.write(data)
                stream.flush()
        except OSError:
            pass  # the child is gone; the reader sees it too
        finally:
            with contextlib.suppress(OSError):
                stream.close()

    def _read_log(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                text = line.decode("utf-8", "replace").rstrip()
                self._log.append(text)
                logger.debug("engine %d: %s", self._child.pid, text)


def _check_size(texts: Iterable[str | tuple[int, ...]]) -> None:
    """Refuse what would not fit into a frame."""
    size = sum(map(len, texts))
    if size > MAX_REQUEST_CHARS:
        raise InvalidRequestError(f"{size} characters", hint=f"at most {MAX_REQUEST_CHARS} in one request; split it")
