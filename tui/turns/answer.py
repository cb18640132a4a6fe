"""Answer: what came of one answer so far, and when. Events are folded into it; it asks nobody and keeps nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from localllm_tui.history.values import Stats

from localllm.api import (
    Event,
    Finished,
    Notice,
    Progress,
    PromptUsage,
    Queued,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
)


@dataclass
class Answer:
    """One answer under way. Times are seconds of one clock; `started` is when the request was sent."""

    started: float
    content: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    progress: Progress | None = None
    queued: Queued | None = None
    prompt: PromptUsage | None = None
    finished: Finished | None = None
    first_token: float | None = None
    first_reasoning: float | None = None
    end_of_reasoning: float | None = None
    ended: float | None = None

    def fold(self, event: Event, now: float) -> None:
        """Take in what came at `now`."""
        match event:
            case Progress():
                self.progress = event
            case Queued():
                self.queued, self.progress = event, None
            case PromptUsage():
                self.prompt, self.queued, self.progress = event, None, None
            case Notice():
                self.notices.append(event)
            case ReasoningDelta():
                self._token(now)
                if self.first_reasoning is None:
                    self.first_reasoning = now
                self.reasoning += event.text
            case TextDelta():
                self._token(now)
                self._thought(now)
                self.content += event.text
            case ToolCallDelta():
                self._token(now)
                self._thought(now)
            case ToolCallEvent():
                self._token(now)
                self._thought(now)
                self.calls.append(event.call)
            case Finished():
                self.finished = event
                self.end(now)

    def end(self, now: float) -> None:
        """Nothing more comes."""
        self._thought(now)
        self.progress = self.queued = None
        self.ended = now

    def _token(self, now: float) -> None:
        self.progress = self.queued = None
        if self.first_token is None:
            self.first_token = now

    def _thought(self, now: float) -> None:
        if self.first_reasoning is not None and self.end_of_reasoning is None:
            self.end_of_reasoning = now

    def stats(self) -> Stats:
        """The figures so far: the engine's once it is finished, times from sending as measured here."""
        done = self.finished
        ended = self.ended if self.ended is not None else self.started
        stats = Stats(
            first_token_s=None if self.first_token is None else self.first_token - self.started,
            reasoning_s=self._reasoning_s(),
            total_s=ended - self.started,
        )
        if done is None:
            return stats
        return Stats(
            num_prompt_tokens=done.usage.num_prompt_tokens,
            num_cached_tokens=done.usage.num_cached_tokens,
            num_output_tokens=done.usage.num_output_tokens,
            queue_s=done.timings.queue_s,
            prompt_s=done.timings.prompt_s,
            decode_s=done.timings.decode_s,
            first_token_s=stats.first_token_s,
            reasoning_s=stats.reasoning_s,
            total_s=stats.total_s,
        )

    def _reasoning_s(self) -> float | None:
        if self.first_reasoning is None or self.end_of_reasoning is None:
            return None
        return self.end_of_reasoning - self.first_reasoning
