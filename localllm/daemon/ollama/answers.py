"""Events to Ollama's answers, whole and in lines. Pure, with a state for each request; times are given.

`Tally` is what is measured and found out beside the events, by whoever passes them on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from localllm.api import (
    Event,
    Finished,
    Notice,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallEvent,
    Usage,
)
from localllm.daemon.errors import Problem
from localllm.daemon.ndjson import NdjsonStream, line
from localllm.daemon.ollama.values import (
    call_value,
    error_body,
    logprobs_value,
    metrics_value,
    notices_value,
    reason_word,
)

Kind = Literal["chat", "generate"]
Stamp = Callable[[], str]


@dataclass(slots=True)
class Tally:
    """`load_ns`: from the request to a model in memory, 0 where it was there. `context`: tokens to go on from."""

    load_ns: int = 0
    total_ns: int = 0
    context: list[int] | None = None
    notices: list[Notice] = field(default_factory=list)


def piece(kind: Kind, text: str = "", **fields: Any) -> dict[str, Any]:
    """The part of an answer that has its text. `fields` belong beside it."""
    if kind == "chat":
        return {"message": {"role": "assistant", "content": text, **fields}}
    return {"response": text, **fields}


def ended_value(model: str, kind: Kind, stamp: Stamp, reason: str) -> dict[str, Any]:
    """The answer to a request that only loads or unloads a model."""
    return {"model": model, "created_at": stamp(), **piece(kind), "done": True, "done_reason": reason}


def whole(model: str, kind: Kind, events: Iterable[Event], tally: Tally, stamp: Stamp) -> dict[str, Any]:
    """The one answer of a request that wants no stream."""
    texts: list[str] = []
    thinking: list[str] = []
    calls: list[ToolCall] = []
    logprobs: list[TokenLogprob] = []
    notices: list[Notice] = []
    finished = Finished("stop", Usage())
    for event in events:
        match event:
            case TextDelta(text, known):
                texts.append(text)
                logprobs += known
            case ReasoningDelta(text, known):
                thinking.append(text)
                logprobs += known
            case ToolCallEvent(call):
                calls.append(call)
            case Notice():
                notices.append(event)
            case Finished():
                finished = event
    fields: dict[str, Any] = {"thinking": "".join(thinking)} if thinking else {}
    made = _calls(calls, 0)
    if made.values:
        fields["tool_calls"] = made.values
    value = {"model": model, "created_at": stamp(), **piece(kind, "".join([*texts, made.text]), **fields)}
    if logprobs:
        value["logprobs"] = logprobs_value(logprobs)
    return value | _tail(finished, tally, notices)


class AnswerStream(NdjsonStream):
    """The lines of an answer. A tool call comes whole, as clients of this API expect it."""

    def __init__(self, model: str, kind: Kind, tally: Tally, stamp: Stamp) -> None:
        self._model = model
        self._kind: Kind = kind
        self._tally = tally
        self._stamp = stamp
        self._num_calls = 0
        self._notices: list[Notice] = []

    def encode(self, events: Sequence[Event]) -> bytes:
        """The events as lines."""
        out: list[bytes] = []
        for event in events:
            match event:
                case TextDelta(text, logprobs):
                    if text or logprobs:
                        out.append(self._line(piece(self._kind, text), logprobs))
                case ReasoningDelta(text, logprobs):
                    out.append(self._line(piece(self._kind, thinking=text), logprobs))
                case ToolCallEvent(call):
                    made = _calls([call], self._num_calls)
                    self._num_calls += len(made.values)
                    fields = {"tool_calls": made.values} if made.values else {}
                    out.append(self._line(piece(self._kind, made.text, **fields)))
                case Notice():
                    self._notices.append(event)
                case Finished():
                    value = {"model": self._model, "created_at": self._stamp(), **piece(self._kind)}
                    out.append(line(value | _tail(event, self._tally, self._notices)))
        return b"".join(out)

    def fail(self, problem: Problem) -> bytes:
        """The one error line that ends a stream."""
        return error_body(problem) + b"\n"

    def _line(self, said: dict[str, Any], logprobs: Sequence[TokenLogprob] = ()) -> bytes:
        value = {"model": self._model, "created_at": self._stamp(), **said, "done": False}
        if logprobs:
            value["logprobs"] = logprobs_value(logprobs)
        return line(value)


@dataclass(frozen=True, slots=True)
class _Calls:
    """Tool calls as values; `text` is what of them is no call, because its arguments are no object."""

    values: list[dict[str, Any]]
    text: str


def _calls(calls: Sequence[ToolCall], first: int) -> _Calls:
    values: list[dict[str, Any]] = []
    texts: list[str] = []
    for call in calls:
        value = call_value(call, first + len(values))
        if value is None:
            texts.append(f"{call.name} {call.arguments}")
        else:
            values.append(value)
    return _Calls(values, "\n".join(texts))


def _tail(finished: Finished, tally: Tally, notices: Sequence[Notice]) -> dict[str, Any]:
    """What ends an answer: the reason, the numbers, and what a user should know."""
    value: dict[str, Any] = {"done": True, "done_reason": reason_word(finished.reason)}
    if tally.context is not None:
        value["context"] = tally.context
    metrics = metrics_value(finished.usage, finished.timings, tally.total_ns, tally.load_ns)
    return value | metrics | notices_value([*tally.notices, *notices])
