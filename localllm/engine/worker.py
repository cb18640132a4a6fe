"""The engine child's main: `python -m localllm.engine.worker`. Reads frames from stdin, writes frames to stdout.

Three threads: the main one reads, so that the end of stdin ends the process at any moment; the preparer renders and
tokenizes, so that no template or text stalls a stream; the engine's loads the model and runs the step loop.
Everything that prints goes to stderr, which is the log.
"""

from __future__ import annotations

import collections
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from localllm.api import Finished, Rendered, Usage, check_sampling
from localllm.engine import frames
from localllm.errors import EngineLoadError, LocalLLMError

if TYPE_CHECKING:
    from localllm.engine.job import Job
    from localllm.engine.pooled_work import PooledJob

logger = logging.getLogger(__name__)

# A step may be under way, then prefixes are written; the parent waits longer.
CLOSE_S = 2.0

Texts = frames.Embed | frames.Rerank
Work = frames.Chat | frames.Complete | frames.Render | frames.Tokenize | frames.Detokenize | Texts


class Worker:
    """One child's life: load, serve, end."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._write_lock = threading.Lock()
        self._work: queue.SimpleQueue[Work] = queue.SimpleQueue()
        # Texts to embed come in thousands: a queue and a thread of their own, so that no chat waits behind them.
        self._texts: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._texts_thread: threading.Thread | None = None
        # Requests that the preparer has not handed to the engine yet, and those of them to be aborted.
        self._pending: set[int] = set()
        self._aborted: set[int] = set()
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._engine: threading.Thread | None = None
        self._closing = False
        self._reported = -1.0
        # When the preparer took up what it is at; 0: it waits.
        self._text_began = 0.0
        self._log: collections.deque[str] = collections.deque(maxlen=8)

    def main(self) -> None:
        """Read frames until stdin ends."""
        prepare = (self._prepare_loop, self._work)
        threading.Thread(target=self._guard, args=prepare, name="preparer", daemon=True).start()
        while (frame := frames.read_request(self._source)) is not None:
            match frame:
                case frames.Load(spec):
                    self._engine = threading.Thread(
                        target=self._guard, args=(self._engine_main, spec), name="engine", daemon=True
                    )
                    self._engine.start()
                case frames.Abort(request_id):
                    self._abort(request_id)
                case frames.Steer(request_id, control):
                    if self._ready.is_set():
                        self._loaded.engine.steer(request_id, control)
                case frames.Ping():
                    self._pong()
                case frames.Embed() | frames.Rerank():
                    self._prepare_texts(frame)
                case frames.Chat() | frames.Complete() | frames.Render() | frames.Tokenize() | frames.Detokenize():
                    with self._lock:
                        self._pending.add(frame.id)
                    self._work.put(frame)

    def close(self) -> None:
        """Let the engine put away what it has, for a moment."""
        self._closing = True
        if self._ready.is_set() and self._engine is not None:
            self._loaded.engine.stop()
            self._engine.join(CLOSE_S)

    def _prepare_texts(self, frame: Texts) -> None:
        with self._lock:
            self._pending.add(frame.id)
        self._texts.put(frame)
        if self._texts_thread is None:
            self._texts_thread = threading.Thread(
                target=self._guard, args=(self._prepare_loop, self._texts), name="texts preparer", daemon=True
            )
            self._texts_thread.start()

    def _send(self, frame: frames.Answer) -> None:
        data = frames.encode(frame)
        try:
            with self._write_lock:
                self._sink.write(data)
                self._sink.flush()
        except BrokenPipeError:
            if not self._closing:
                raise

    def _guard(self, target: Callable[..., None], *args: object) -> None:
        """Run a thread's body; whatever escapes it ends the process, so that no request waits for a dead thread."""
        try:
            target(*args)
        except BrokenPipeError:
            os._exit(0)
        except MemoryError:
            _end_without_memory()
        except BaseException:
            try:
                logger.exception("the %s thread failed", threading.current_thread().name)
                sys.stderr.flush()
            finally:
                os._exit(70)

    # --- the engine's thread --------------------------------------------------------------------------------------

    def _engine_main(self, spec: frames.LoadSpec) -> None:
        from localllm.engine.assembly import load

        began = time.perf_counter()
        try:
            self._loaded = load(
                spec, self._log_line, self._on_progress, lambda events: self._send(frames.Step(events)), self._send
            )
        except LocalLLMError as error:
            if isinstance(error, EngineLoadError) and self._log:
                # What comes after the reason only says that it failed.
                reason = next((line for line in self._log if "error" in line), self._log[-1])
                error = EngineLoadError(f"{error.message}: {reason}", hint=error.hint, **error.facts)
            self._send(frames.Failed(-1, frames.pack_error(error)))
            os._exit(1)
        self._ready.set()
        self._send(frames.Ready(self._loaded.info(time.perf_counter() - began)))
        try:
            self._loaded.engine.loop()
        except LocalLLMError as error:
            # llama.cpp's memory is in doubt: end, and let the parent start afresh.
            for request_id in self._loaded.engine.abandon():
                self._send(frames.Failed(request_id, frames.pack_error(error)))
            os._exit(71)

    def _on_progress(self, fraction: float) -> bool:
        # llama.cpp reports every tensor.
        if fraction >= self._reported + 0.02 or fraction == 1.0:
            self._reported = fraction
            self._send(frames.Loading(fraction))
        return True

    def _log_line(self, level: int, text: str) -> None:
        if level >= 3:
            if line := text.strip():
                self._log.append(line)
            sys.stderr.write(text)

    # --- the preparer's thread ------------------------------------------------------------------------------------

    def _prepare_loop(self, queued: queue.SimpleQueue[Work]) -> None:
        import localllm.text.sandbox  # noqa: F401  # jinja takes its import time while the model loads

        self._ready.wait()
        while True:
            work = queued.get()
            try:
                if queued is self._work:
                    self._text_began = time.perf_counter()
                self._prepare(work)
            except LocalLLMError as error:
                with self._lock:
                    self._pending.discard(work.id)
                    self._aborted.discard(work.id)
                self._send(frames.Failed(work.id, frames.pack_error(error)))
            finally:
                if queued is self._work:
                    self._text_began = 0.0

    def _prepare(self, work: Work) -> None:
        vocab = self._loaded.model.vocab
        match work:
            case frames.Tokenize(request_id, text, parse_special):
                self._reply(request_id, self._loaded.tokenize(text, parse_special))
            case frames.Detokenize(request_id, tokens):
                self._reply(request_id, vocab.detokenize(list(tokens)))
            case frames.Render(request_id, chat):
                self._reply(request_id, self._loaded.render(chat))
            case frames.Chat(request_id, chat):
                check_sampling(chat.sampling, vocab.num_tokens)
                self._submit(self._loaded.chat_job(request_id, chat))
            case frames.Complete(request_id, completion):
                check_sampling(completion.sampling, vocab.num_tokens)
                self._submit(self._loaded.completion_job(request_id, completion))
            case frames.Embed(request_id, texts):
                self._submit_pooled(self._loaded.embed_job(request_id, texts))
            case frames.Rerank(request_id, texts):
                self._submit_pooled(self._loaded.rerank_job(request_id, texts))

    def _reply(self, request_id: int, value: list[int] | str | Rendered) -> None:
        with self._lock:
            self._pending.discard(request_id)
        self._send(frames.Reply(request_id, value))

    def _submit(self, job: Job) -> None:
        with self._lock:
            self._pending.discard(job.id)
            aborted = job.id in self._aborted
            self._aborted.discard(job.id)
            if not aborted:
                self._loaded.engine.submit(job)
        if aborted:
            self._send(frames.Step([(job.id, [Finished("abort", Usage(num_prompt_tokens=len(job.tokens)))])]))

    def _submit_pooled(self, job: PooledJob) -> None:
        with self._lock:
            self._pending.discard(job.id)
            if job.id in self._aborted:
                self._aborted.discard(job.id)
            else:
                self._loaded.engine.submit_pooled(job)

    # --- the main thread ------------------------------------------------------------------------------------------

    def _abort(self, request_id: int) -> None:
        with self._lock:
            if request_id in self._pending:
                self._aborted.add(request_id)
            elif self._ready.is_set():
                self._loaded.engine.abort(request_id)

    def _pong(self) -> None:
        step_s, running, waiting, num_tokens = 0.0, 0, 0, 0
        began = self._text_began
        text_s = time.perf_counter() - began if began else 0.0
        if self._ready.is_set():
            engine = self._loaded.engine
            running, waiting = engine.counts
            num_tokens = engine.num_output_tokens
            step_s = time.perf_counter() - engine.step_began if engine.step_began else 0.0
        self._send(frames.Pong(step_s, running, waiting, num_tokens, text_s))


def _end_without_memory() -> NoReturn:
    """End with nothing that takes memory: whatever is left undone would be waited for."""
    os.write(2, b"there is no memory left\n")
    os._exit(frames.NO_MEMORY_STATUS)


def _on_unraisable(args: sys.UnraisableHookArgs) -> None:
    """A thread that has no memory to begin with raises nowhere, and whoever started it waits for ever."""
    if issubclass(args.exc_type, MemoryError):
        _end_without_memory()
    sys.__unraisablehook__(args)


def main() -> NoReturn:
    """Take the standard streams over and serve until stdin ends."""
    # The parent decides what an interrupt means; the terminal sends it to both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    sys.unraisablehook = _on_unraisable
    # A rendering thread must not hold the step loop up for long.
    sys.setswitchinterval(0.0005)
    source = os.fdopen(os.dup(0), "rb", buffering=1 << 16)
    sink = os.fdopen(os.dup(1), "wb", buffering=0)
    # Whatever a library prints must not land among the frames.
    os.dup2(2, 1)
    import localllm.engine.assembly  # noqa: F401  # the slow imports, while the parent still decides what to load

    worker = Worker(source, sink)
    worker.main()
    worker.close()
    os._exit(0)


if __name__ == "__main__":
    main()
