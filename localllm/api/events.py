"""What comes back bit by bit while a request runs."""

from __future__ import annotations

from typing import Any, Literal

from localllm.api.answers import Receipt
from localllm.api.messages import ToolCall
from localllm.api.value import Value

FinishReason = Literal["stop", "length", "abort", "tool_calls", "deadline", "runaway"]


class TokenLogprob(Value, frozen=True):
    """Log probability of one token (natural log, before sampling). `top` holds the likeliest alternatives."""

    token: int
    text: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...] = ()


class Usage(Value, frozen=True):
    """Tokens of one request, over all its answers. Cached ones were not computed again.

    Of the output, `num_forced_tokens` were dictated by a constraint without a choice. `num_drafted_tokens` were guessed
    ahead and `num_accepted_tokens` of these were right.
    """

    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0
    num_reasoning_tokens: int = 0
    num_forced_tokens: int = 0
    num_drafted_tokens: int = 0
    num_accepted_tokens: int = 0


class Timings(Value, frozen=True):
    """Where the time of one request went, measured in the engine. `decode_s` runs from the first token to the last."""

    queue_s: float = 0.0
    prompt_s: float = 0.0
    decode_s: float = 0.0


class TextDelta(Value, frozen=True, tag="text"):
    """More of answer `index`. Never half a character, never part of a stop string."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    index: int = 0


class ReasoningDelta(Value, frozen=True, tag="reasoning"):
    """More of the model's thinking."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    index: int = 0


class ToolCallDelta(Value, frozen=True, tag="tool_call_delta"):
    """More of call number `position` of answer `index`: its id and name first, then pieces of its arguments' JSON."""

    position: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    index: int = 0


class ToolCallEvent(Value, frozen=True, tag="tool_call"):
    """A whole tool call, after all its deltas: call number `position` of answer `index`."""

    call: ToolCall
    index: int = 0
    position: int = 0


class PromptLogprobs(Value, frozen=True, tag="prompt_logprobs"):
    """Log probabilities of the prompt's tokens, in order from the second: nothing comes before the first."""

    logprobs: tuple[TokenLogprob, ...]


class PromptUsage(Value, frozen=True, tag="prompt_usage"):
    """The prompt is read and the answer begins: what the prompt took. Only where the request asks for it."""

    num_prompt_tokens: int
    num_cached_tokens: int = 0


class Queued(Value, frozen=True, tag="queued"):
    """Where a request stands in the queue: `num_ahead` go first. `eta_s` None: nothing measured yet."""

    num_ahead: int
    eta_s: float | None = None


class ChoiceFinished(Value, frozen=True, tag="choice_finished"):
    """The end of one of several answers; only sent where `n` is above 1, each before the one Finished."""

    index: int
    reason: FinishReason
    stop: str | None = None


class Notice(Value, frozen=True, tag="notice"):
    """Something a user should know that is no error: a reduced context, dropped turns, a fallback to CPU."""

    kind: str
    message: str
    facts: dict[str, Any] = {}


class Progress(Value, frozen=True, tag="progress"):
    """Long work under way. `total` None: unknown. `unit`: "bytes" or "fraction" (of 1.0).

    A model may be several files: `done` and `total` are of all of them, `file_done` and `file_bytes` of the one that
    `digest` names, where that is known before it is here.
    """

    stage: Literal["resolve", "download", "verify", "load"]
    detail: str = ""
    done: float = 0
    total: float | None = None
    unit: Literal["bytes", "fraction"] = "bytes"
    digest: str = ""
    file_done: int = 0
    file_bytes: int | None = None


class Finished(Value, frozen=True, tag="finished"):
    """The one last event of a request. With several answers `reason` and `stop` are those of the first."""

    reason: FinishReason
    usage: Usage
    timings: Timings = Timings()
    stop: str | None = None
    receipt: Receipt | None = None


Event = (
    TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | ToolCallEvent
    | PromptLogprobs
    | PromptUsage
    | Queued
    | Notice
    | Progress
    | ChoiceFinished
    | Finished
)
