"""Turn: one answer under way, from its request to its last word, written down while it comes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec
from localllm_tui.history.history import History
from localllm_tui.history.values import Node, NodeState
from localllm_tui.turns.answer import Answer
from localllm_tui.turns.watcher import Watcher

from localllm.api import Backend, ChatRequest, Event
from localllm.closing import closing
from localllm.errors import LocalLLMError

log = logging.getLogger(__name__)

# What came is written down at most this often: enough for kill -9, and too seldom to be felt.
SAVE_EVERY_S = 0.5
# How long a request may take to end by itself, figures and all, before its stream is closed.
STOP_WITHIN_S = 1.0


class Turn:
    """One request, and the node that its answer goes into; a node that has text already is gone on with.

    After `run`, `error` is what ended the answer, where that was an error.
    """

    def __init__(
        self,
        backend: Backend,
        history: History,
        request: ChatRequest,
        node: Node,
        watcher: Watcher,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.request = request
        self.error: LocalLLMError | None = None
        self._backend = backend
        self._history = history
        self._watcher = watcher
        self._clock = clock
        self._before = self._kept = node
        self.answer = Answer(clock())
        self._reading: asyncio.Future[None] | None = None
        self._is_stopped = False
        self._save_timer: asyncio.TimerHandle | None = None
        self._told_unsaved = False

    async def run(self) -> Node:
        """Ask, and take in what comes until the end. Every ending is a state; only being cancelled is raised."""
        self._reading = asyncio.ensure_future(self._read())
        try:
            await asyncio.wait({self._reading})
        except asyncio.CancelledError:
            self._is_stopped = True
            self._reading.cancel()
            await asyncio.wait({self._reading})
            self._end()
            raise
        return self._end()

    async def stop(self) -> None:
        """End the answer with what it has: in good order if that goes at once, by closing the stream if not."""
        reading = self._reading
        if reading is None or reading.done():
            return
        again, self._is_stopped = self._is_stopped, True
        if not again and self.answer.first_token is not None and await self._ask_to_stop():
            await asyncio.wait({reading}, timeout=STOP_WITHIN_S)
        reading.cancel()
        await asyncio.wait({reading})

    async def _ask_to_stop(self) -> bool:
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                return await self._backend.control(self.request.request_id or "", "stop")
        except (LocalLLMError, TimeoutError):
            return False

    async def stop_thinking(self) -> bool:
        """Let the model answer now. False: it does not think, or not yet. Raises what the Backend raises."""
        return await self._backend.control(self.request.request_id or "", "stop_thinking")

    async def _read(self) -> None:
        async with closing(self._backend.chat(self.request)) as events:
            async for event in events:
                self._take(event)

    def _take(self, event: Event) -> None:
        self.answer.fold(event, self._clock())
        self._watcher.came(self._before.id, event)
        if self._save_timer is None:
            self._save_timer = asyncio.get_running_loop().call_later(SAVE_EVERY_S, self._save_what_came)

    def node(self) -> Node:
        """The node with what came so far."""
        return msgspec.structs.replace(self._kept, **self._text())

    def _text(self) -> dict[str, Any]:
        before, answer = self._before, self.answer
        return {
            "content": before.content + answer.content,
            "reasoning": before.reasoning + answer.reasoning,
            "tool_calls": (*before.tool_calls, *answer.calls),
        }

    def _save_what_came(self) -> None:
        self._save_timer = None
        self._save(**self._text())

    def _save(self, **fields: Any) -> None:
        """Write down. A history that cannot is no reason to lose the answer: it stays here, and is tried again."""
        try:
            self._kept = self._history.update(self._before.id, **fields)
        except LocalLLMError as exc:
            self._kept = msgspec.structs.replace(self._kept, **fields)
            if not self._told_unsaved:
                self._told_unsaved = True
                self._watcher.not_kept(exc)

    def _end(self) -> Node:
        """The last word, by how reading ended."""
        if self._save_timer is not None:
            self._save_timer.cancel()
        self.answer.end(self._clock())
        state, error = self._outcome()
        self._save(**self._text(), state=state, error=error, stats=self.answer.stats())
        self._watcher.ended(self._kept)
        return self._kept

    def _outcome(self) -> tuple[NodeState, str | None]:
        reading = self._reading
        assert reading is not None
        assert reading.done()
        if reading.cancelled():
            return "stopped", _remarks(self.answer)
        failure = reading.exception()
        if failure is None:
            finished = self.answer.finished
            is_stopped = self._is_stopped or (finished is not None and finished.reason == "abort")
            return "stopped" if is_stopped else "complete", _remarks(self.answer)
        if not isinstance(failure, LocalLLMError):
            log.error("an answer broke", exc_info=failure)
            failure = LocalLLMError(f"localllm itself broke: {type(failure).__name__}: {failure}", hint="try again")
        self.error = failure
        return "failed", words(failure)


def words(error: LocalLLMError) -> str:
    """An error for a person: what happened, and on a line of its own what helps."""
    return f"{error.message}\n{error.hint}" if error.hint else error.message


def _remarks(answer: Answer) -> str | None:
    """What is to be said of an answer that is there: what the Backend noticed, and why it ended but not by itself."""
    lines = [notice.message for notice in answer.notices]
    match answer.finished.reason if answer.finished else None:
        case "length":
            lines.append("The answer is cut short: it reached its bound of tokens, or the end of the context.")
        case "deadline":
            lines.append("The answer is cut short: its time was over.")
        case "runaway":
            lines.append("The answer was ended: it repeated itself for ever.")
    return "\n".join(lines) or None
