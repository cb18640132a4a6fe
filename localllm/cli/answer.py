"""Shows one answer as its events come, and keeps what it was. Knows no model and asks for nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

from localllm import terminal_text as text
from localllm.api import (
    Event,
    Finished,
    LoadedModel,
    Notice,
    Progress,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallEvent,
)
from localllm.cli.installed import matching
from localllm.cli.progress import ProgressView
from localllm.closing import closing

if TYPE_CHECKING:
    from localllm.api import Backend
    from localllm.cli.output import Output


class Answer(msgspec.Struct):
    """What has arrived of an answer. `finished` None: it was stopped, or failed, before its end."""

    content: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = []
    notices: list[Notice] = []
    logprobs: list[TokenLogprob] = []
    finished: Finished | None = None


class AnswerView:
    """Writes an answer to an Output: text as data, thinking dim on a terminal only, notices as narration."""

    def __init__(self, output: Output, *, silent: bool = False) -> None:
        self._output = output
        self._silent = silent
        self._progress = ProgressView(output)
        self._at_line_start = True
        self._thinking = False

    async def show(self, events: AsyncIterator[Event], answer: Answer) -> None:
        """Show events until the stream ends, filling `answer`; the stream is closed in any case (that cancels it)."""
        try:
            async with closing(events) as stream:
                async for event in stream:
                    self._take(event, answer)
        finally:
            self._progress.close()
            self._end_thinking()
            if not self._at_line_start:
                self._write("\n")
                self._output.flush()

    def _take(self, event: Event, answer: Answer) -> None:
        if isinstance(event, Progress):
            self._progress.update(event)
            return
        self._progress.close()
        if isinstance(event, TextDelta):
            answer.content += event.text
            answer.logprobs.extend(event.logprobs)
            self._show_text(event.text)
        elif isinstance(event, ReasoningDelta):
            answer.reasoning += event.text
            answer.logprobs.extend(event.logprobs)
            self._show_reasoning(event.text)
        elif isinstance(event, ToolCallEvent):
            answer.tool_calls.append(event.call)
            self._show_text(f"{event.call.name}({event.call.arguments})\n")
        elif isinstance(event, Notice):
            answer.notices.append(event)
            self._fresh_line()
            self._output.note(f"note: {event.message}")
        elif isinstance(event, Finished):
            answer.finished = event

    def _show_text(self, words: str) -> None:
        if self._silent:
            return
        self._end_thinking()
        self._write(words)
        self._output.flush()

    def _show_reasoning(self, words: str) -> None:
        if self._silent or not self._output.out_is_tty:
            return
        if not self._thinking:
            self._fresh_line()
            self._thinking = True
            self._write(self._output.styled("[thinking]", "dim") + "\n", trusted=True)
        safe = text.safe_stream(words)
        self._write(
            "\n".join(self._output.styled(line, "dim") if line else "" for line in safe.split("\n")), trusted=True
        )
        self._at_line_start = words.endswith("\n")
        self._output.flush()

    def _end_thinking(self) -> None:
        if self._thinking:
            self._thinking = False
            self._fresh_line()
            self._write(self._output.styled("[end of thinking]", "dim") + "\n\n", trusted=True)

    def _fresh_line(self) -> None:
        if not self._at_line_start:
            self._write("\n")

    def _write(self, words: str, *, trusted: bool = False) -> None:
        """Model text reaches a terminal without control characters, a pipe or file as it is."""
        if not words:
            return
        self._output.out.write(words if trusted or not self._output.out_is_tty else text.safe_stream(words))
        self._at_line_start = words.endswith("\n")


async def tell_end(backend: Backend, output: Output, model: str, answer: Answer, *, verbose: bool) -> None:
    """Say on standard error why an answer ended early, and under `--verbose` what it took."""
    finished = answer.finished
    if finished is None:
        return
    if finished.reason == "length":
        why = "--max-tokens, or the context is full"
        output.note(f"note: the answer was cut after {finished.usage.num_output_tokens} tokens ({why})")
    if verbose:
        for line in stats_lines(finished, await loaded_as(backend, model)):
            output.warn(line)


async def loaded_as(backend: Backend, typed: str) -> LoadedModel | None:
    """The model in memory that a person calls `typed`."""
    loaded = {model.name: model for model in await backend.list_loaded()}
    return loaded.get(matching(loaded, typed) or "")


def stats_lines(finished: Finished, loaded: LoadedModel | None) -> list[str]:
    """What `--verbose` and `/stats` say; a rate that was not measured is left out rather than made up."""
    usage, timings = finished.usage, finished.timings
    computed = usage.num_prompt_tokens - usage.num_cached_tokens
    lines = []
    if loaded is not None and loaded.load_s:
        lines.append(f"load      {loaded.load_s:.2f} s, context {loaded.num_ctx}, {loaded.device}")
    cached = f", {usage.num_cached_tokens} cached"
    lines.append(f"prompt    {usage.num_prompt_tokens} tokens{cached}{_rate(computed, timings.prompt_s)}")
    thinking = f", {usage.num_reasoning_tokens} thinking" if usage.num_reasoning_tokens else ""
    lines.append(
        f"answer    {usage.num_output_tokens} tokens{thinking}{_rate(usage.num_output_tokens - 1, timings.decode_s)}"
    )
    if usage.num_drafted_tokens:
        lines.append(f"guessed   {usage.num_drafted_tokens} tokens ahead, {usage.num_accepted_tokens} right")
    if timings.queue_s >= 0.001:
        lines.append(f"waited    {timings.queue_s:.2f} s")
    return lines


def _rate(num_tokens: int, seconds: float) -> str:
    return f", {num_tokens / seconds:.1f} tok/s in {seconds:.2f} s" if num_tokens > 0 and seconds > 0 else ""
