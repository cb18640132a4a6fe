"""Meter: keeps the gauges of one conversation up to date. Asks the Backend seldom, in the background, and never loads.

Before sending, the prompt is rendered and counted, draft and all, where its model is in memory. While an answer comes
its text is counted once a second. In the end the engine's own figures stand.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from localllm_tui.history.values import Draft, Node, Stats
from localllm_tui.turns.answer import Answer
from localllm_tui.turns.context import count_prompt
from localllm_tui.turns.gauges import Gauges, LiveSpeed
from localllm_tui.turns.loaded import find_loaded
from localllm_tui.turns.open_conversation import OpenConversation

from localllm.api import Backend, LoadedModel, Progress
from localllm.errors import LocalLLMError

_DEBOUNCE_S = 0.4
_EVERY_S = 1.0
_MODEL_EVERY = 10  # of these, one looks at the model too


class Meter:
    """`on_change` is called with the gauges whenever they are other ones. `run` goes on until it is cancelled."""

    def __init__(
        self,
        backend: Callable[[], Awaitable[Backend]],
        on_change: Callable[[Gauges], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.gauges = Gauges()
        self._backend = backend
        self._on_change = on_change
        self._clock = clock
        self._open: OpenConversation | None = None
        self._draft = Draft()
        self._loaded: LoadedModel | None = None
        self._counting: asyncio.TimerHandle | None = None
        self._counts: asyncio.Task[None] | None = None
        self._answer: Answer | None = None
        self._counted = (0, 0)  # characters of the answer, and the tokens they are
        self._speed = LiveSpeed()
        self._poke = asyncio.Event()
        self._is_stale = True  # the model is to be looked at

    # --- what it is told ----------------------------------------------------------------------------------------------

    def look_at(self, opened: OpenConversation, draft: Draft) -> None:
        """Another conversation, another branch, another model, or another draft."""
        if opened is not self._open:
            self._forget_answer()
            self._look_soon()
        self._open, self._draft = opened, draft
        self.show()
        self.count_soon()

    def show(self) -> None:
        """The figures that need no asking."""
        opened = self._open
        if opened is None:
            return
        turn = opened.reply.turn if opened.reply is not None and opened.is_busy else None
        if turn is None:
            if self._answer is not None:
                self._look_soon()
            self._forget_answer()
            self._set(queued=None, progress=None, is_live=False, doing="starting" if opened.is_busy else "")
            if not opened.is_busy:
                self._set(**figures_of(_last_stats(opened.path)))
            return
        answer = turn.answer
        if answer is not self._answer:
            self._forget_answer()
            self._answer = answer
            self._set(num_cached=None, tokens_per_s=None, is_live=False)
        if answer.prompt is not None and self.gauges.num_cached is None:
            self._set(num_used=answer.prompt.num_prompt_tokens, num_cached=answer.prompt.num_cached_tokens)
        first = None if answer.first_token is None else answer.first_token - answer.started
        self._set(queued=answer.queued, progress=answer.progress, first_token_s=first, doing=_doing(answer))

    def count_soon(self) -> None:
        """Count the prompt once nobody has typed for a moment."""
        if self._counting is not None:
            self._counting.cancel()
        self._counting = asyncio.get_running_loop().call_later(_DEBOUNCE_S, self._count_now)

    def loading(self, progress: Progress | None) -> None:
        """A load ahead of the first message; None: it has ended."""
        if self._answer is None:
            self._set(progress=progress)
        if progress is None:
            self._look_soon()

    def close(self) -> None:
        """Ask nothing more."""
        if self._counting is not None:
            self._counting.cancel()
        if self._counts is not None:
            self._counts.cancel()

    # --- what it asks -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at the model now and then, and count an answer while it comes."""
        beats = 0
        while True:
            if beats % _MODEL_EVERY == 0 or self._is_stale or (self._loaded is None and self._answer is not None):
                self._is_stale = False
                await self.look_at_model()
            if self._answer is not None:
                await self._count_answer(self._answer)
            beats += 1
            self._poke.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._poke.wait(), _EVERY_S)

    def _look_soon(self) -> None:
        self._is_stale = True
        self._poke.set()

    async def look_at_model(self) -> None:
        """Which device the model is on, what it takes, how much context it has."""
        opened = self._open
        if opened is None:
            return
        was = self._loaded
        try:
            self._loaded = loaded = await find_loaded(await self._backend(), opened.wishes.model)
        except LocalLLMError:
            self._loaded = loaded = None
        if loaded is None:
            self._set(num_ctx=None, device=None, memory_bytes=None)
            return
        memory_bytes = sum(loaded.bytes_by_device.values())
        self._set(num_ctx=loaded.num_ctx, device=loaded.device, memory_bytes=memory_bytes)
        if was is None:
            self.count_soon()

    def _count_now(self) -> None:
        self._counting = None
        opened = self._open
        if opened is None or opened.is_busy or self._loaded is None or not _is_to_be_counted(opened, self._draft):
            return
        if self._counts is not None:
            self._counts.cancel()
        self._counts = asyncio.ensure_future(self._count_prompt(opened, self._draft))

    async def _count_prompt(self, opened: OpenConversation, draft: Draft) -> None:
        try:
            counted = await count_prompt(await self._backend(), opened, draft)
        except LocalLLMError:
            return
        if counted is not None and opened is self._open and not opened.is_busy and draft == self._draft:
            self._set(num_used=counted.num_prompt, num_ctx=counted.num_ctx)

    async def _count_answer(self, answer: Answer) -> None:
        """Count what came since the last time."""
        opened = self._open
        if opened is None or answer.prompt is None or answer.first_token is None:
            return
        text = answer.reasoning + answer.content
        num_chars, num_tokens = self._counted
        try:
            backend = await self._backend()
            if len(text) > num_chars:
                num_tokens += len(await backend.tokenize(opened.wishes.model, text[num_chars:]))
        except LocalLLMError:
            return
        if answer is not self._answer or answer.ended is not None:
            return
        self._counted = len(text), num_tokens
        self._speed.count(self._clock(), num_tokens)
        self._set(
            num_used=answer.prompt.num_prompt_tokens + num_tokens, tokens_per_s=self._speed.tokens_per_s(), is_live=True
        )

    def _forget_answer(self) -> None:
        self._answer, self._counted, self._speed = None, (0, 0), LiveSpeed()

    def _set(self, **fields: Any) -> None:
        gauges = msgspec.structs.replace(self.gauges, **fields)
        if gauges != self.gauges:
            self.gauges = gauges
            self._on_change(gauges)


def _is_to_be_counted(opened: OpenConversation, draft: Draft) -> bool:
    """Whether there is something to send; of what was answered the engine's own figures are shown."""
    return bool(draft.text.strip() or draft.attachments) or (bool(opened.path) and opened.path[-1].role != "assistant")


def _last_stats(path: tuple[Node, ...]) -> Stats | None:
    return next((node.stats for node in reversed(path) if node.stats is not None), None)


def figures_of(stats: Stats | None) -> dict[str, Any]:
    """The fields of Gauges that an answer's figures fill."""
    if stats is None or not stats.num_prompt_tokens:
        return {"num_used": None, "num_cached": None, "tokens_per_s": None, "first_token_s": None}
    more = stats.num_output_tokens - 1  # decoding is timed from the first token to the last
    return {
        "num_used": stats.num_prompt_tokens + stats.num_output_tokens,
        "num_cached": stats.num_cached_tokens,
        "tokens_per_s": more / stats.decode_s if more > 0 and stats.decode_s > 0 else None,
        "first_token_s": stats.first_token_s,
    }


def _doing(answer: Answer) -> str:
    if answer.first_token is None:
        return "reading the prompt"
    return "thinking" if answer.first_reasoning is not None and answer.end_of_reasoning is None else "answering"
