"""Events to OpenAI's JSON: whole answers, and the chunks of a stream. Pure: ids and times are given.

A stream's fixed bytes are made once for a request; a chunk is those around a piece of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from localllm.api import (
    ChoiceFinished,
    Event,
    Finished,
    FinishReason,
    Notice,
    PromptLogprobs,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallEvent,
    Usage,
)
from localllm.daemon.errors import Problem

_encode = msgspec.json.encode
_REASONS: dict[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "abort": "stop",
    "tool_calls": "tool_calls",
    "deadline": "length",
    "runaway": "length",
}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class Head(msgspec.Struct, frozen=True):
    """What every chunk of an answer repeats. `created` is in seconds since 1970."""

    id: str
    created: int
    model: str


def error_body(problem: Problem) -> bytes:
    """An error in OpenAI's shape; `hint` and the counts of an over-long prompt are extra."""
    return _encode({"error": error_value(problem)})


def error_value(problem: Problem) -> dict[str, Any]:
    """The inside of an error."""
    kind = _TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")
    error: dict[str, Any] = {
        "message": problem.message,
        "type": kind,
        "param": problem.param,
        "code": problem.code,
    }
    if problem.hint:
        error["hint"] = problem.hint
    return error | problem.counts


class _Answer:
    """One choice as it is gathered."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.logprobs: list[TokenLogprob] = []
        self.reason: FinishReason = "stop"


class _Gathered:
    """All of a request's events, by choice."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.answers: dict[int, _Answer] = {}
        self.notices: list[Notice] = []
        self.prompt_logprobs: tuple[TokenLogprob, ...] | None = None
        self.finished = Finished("stop", Usage())
        for event in events:
            self._take(event)
        if not self.answers:
            self._answer(0)

    def _answer(self, index: int) -> _Answer:
        return self.answers.setdefault(index, _Answer())

    def _take(self, event: Event) -> None:
        match event:
            case TextDelta(text, logprobs, index):
                self._answer(index).texts.append(text)
                self._answer(index).logprobs.extend(logprobs)
            case ReasoningDelta(text, logprobs, index):
                self._answer(index).reasoning.append(text)
                self._answer(index).logprobs.extend(logprobs)
            case ToolCallEvent(call, index):
                answer = self._answer(index)
                answer.calls.append(_call(call.id, call.name, call.arguments))
            case ChoiceFinished(index, reason):
                self._answer(index).reason = reason
            case PromptLogprobs(logprobs):
                self.prompt_logprobs = logprobs
            case Notice():
                self.notices.append(event)
            case Finished(reason):
                self.finished = event
                self._answer(0).reason = reason

    def tail(self) -> dict[str, Any]:
        """What follows the choices."""
        usage, timings = self.finished.usage, self.finished.timings
        value: dict[str, Any] = {"usage": usage_value(usage), "timings": timings_value(usage, timings)}
        if self.notices:
            value["notices"] = self.notices
        if self.finished.receipt is not None:
            value["receipt"] = self.finished.receipt
        return value


def chat_completion(head: Head, events: Iterable[Event], *, logprobs: bool) -> dict[str, Any]:
    """The whole answer of a chat."""
    gathered = _Gathered(events)
    choices = []
    for index, answer in sorted(gathered.answers.items()):
        message: dict[str, Any] = {"role": "assistant", "content": "".join(answer.texts), "refusal": None}
        if answer.reasoning:
            message["reasoning_content"] = "".join(answer.reasoning)
        if answer.calls:
            message["tool_calls"] = answer.calls
            message["content"] = message["content"] or None
        choices.append(
            {
                "index": index,
                "message": message,
                "logprobs": chat_logprobs(answer.logprobs) if logprobs else None,
                "finish_reason": _reason(answer.reason, bool(answer.calls)),
            }
        )
    return _whole(head, "chat.completion", choices, gathered)


def completion(head: Head, events: Iterable[Event], *, logprobs: bool, echoes: Sequence[str]) -> dict[str, Any]:
    """The whole answer of a completion. `echoes[index]` is put before choice `index`; empty: nothing is."""
    gathered = _Gathered(events)
    choices = []
    for index, answer in sorted(gathered.answers.items()):
        echo = echoes[index] if echoes else ""
        known = [*(gathered.prompt_logprobs or ()), *answer.logprobs] if echo else answer.logprobs
        start = len(echo) - sum(len(_text(p.text)) for p in gathered.prompt_logprobs or ()) if echo else 0
        choices.append(
            {
                "index": index,
                "text": echo + "".join(answer.texts),
                "logprobs": completion_logprobs(known, max(start, 0)) if logprobs else None,
                "finish_reason": _reason(answer.reason, False),
            }
        )
    return _whole(head, "text_completion", choices, gathered)


def _whole(head: Head, kind: str, choices: list[dict[str, Any]], gathered: _Gathered) -> dict[str, Any]:
    value = {"id": head.id, "object": kind, "created": head.created, "model": head.model, "choices": choices}
    return value | gathered.tail()


class _Stream:
    """What chat and completion streams share."""

    media_type = "text/event-stream"
    ping = b": ping\n\n"
    _kind = ""

    def __init__(self, head: Head, *, include_usage: bool) -> None:
        values = {"id": head.id, "object": self._kind, "created": head.created, "model": head.model}
        self._start = b"data: " + _encode(values)[:-1] + b","
        self._choice = self._start + b'"choices":[{"index":'
        self._include_usage = include_usage
        self._notices: list[Notice] = []
        self._ended: set[int] = set()

    def encode(self, events: Sequence[Event]) -> bytes:
        """The events as server-sent events."""
        out: list[bytes] = []
        for event in events:
            self._write(event, out)
        return b"".join(out)

    def fail(self, problem: Problem) -> bytes:
        """The one error event that ends a stream; no [DONE] follows."""
        return b"data: " + error_body(problem) + b"\n\n"

    def _write(self, event: Event, out: list[bytes]) -> None:
        raise NotImplementedError

    def _end(self, index: int, reason: FinishReason, out: list[bytes], extra: bytes) -> None:
        raise NotImplementedError

    def _finish(self, event: Finished, out: list[bytes]) -> None:
        """The end of the stream: the last choice's end, the usage where asked for, [DONE]."""
        numbers: dict[str, Any] = {"timings": timings_value(event.usage, event.timings)}
        if self._notices:
            numbers["notices"] = self._notices
        if event.receipt is not None:
            numbers["receipt"] = event.receipt
        extra = b"," + _encode(numbers)[1:-1]
        if not self._ended:
            self._end(0, event.reason, out, extra)
        if self._include_usage:
            usage = _encode(usage_value(event.usage))
            out.append(self._start + b'"choices":[],"usage":' + usage + extra + b"}\n\n")
        out.append(b"data: [DONE]\n\n")


class ChatStream(_Stream):
    """The chunks of a chat."""

    _kind = "chat.completion.chunk"

    def __init__(self, head: Head, *, include_usage: bool) -> None:
        super().__init__(head, include_usage=include_usage)
        self._deltas: dict[int, bytes] = {}
        self._num_calls: dict[int, int] = {}

    def _write(self, event: Event, out: list[bytes]) -> None:
        match event:
            case TextDelta(text, logprobs, index):
                if text or logprobs:
                    self._delta(index, b'"content":' + _encode(text), out, logprobs)
            case ReasoningDelta(text, logprobs, index):
                self._delta(index, b'"reasoning_content":' + _encode(text), out, logprobs)
            case ToolCallEvent(call, index):
                number = self._num_calls.get(index, 0)
                self._num_calls[index] = number + 1
                value = [{"index": number} | _call(call.id, call.name, call.arguments)]
                self._delta(index, b'"tool_calls":' + _encode(value), out)
            case ChoiceFinished(index, reason):
                self._end(index, reason, out, b"")
            case Notice():
                self._notices.append(event)
            case Finished():
                self._finish(event, out)

    def _delta(self, index: int, inside: bytes, out: list[bytes], logprobs: Sequence[TokenLogprob] = ()) -> None:
        start = self._deltas.get(index) or self._open(index, out)
        if logprobs:
            known = _encode(chat_logprobs(logprobs))
            out.append(start + inside + b'},"logprobs":' + known + b',"finish_reason":null}]}\n\n')
        else:
            out.append(start + inside + b'},"finish_reason":null}]}\n\n')

    def _open(self, index: int, out: list[bytes]) -> bytes:
        """The bytes before a delta of choice `index`; its first delta says who speaks."""
        start = self._choice + b'%d,"delta":{' % index
        self._deltas[index] = start
        out.append(start + b'"role":"assistant","content":""},"finish_reason":null}]}\n\n')
        return start

    def _end(self, index: int, reason: FinishReason, out: list[bytes], extra: bytes) -> None:
        start = self._deltas.get(index) or self._open(index, out)
        self._ended.add(index)
        said = _reason(reason, index in self._num_calls).encode()
        out.append(start + b'},"finish_reason":"' + said + b'"}]' + extra + b"}\n\n")


class CompletionStream(_Stream):
    """The chunks of a completion. `echoes[index]` begins choice `index`; empty: nothing does."""

    _kind = "text_completion"

    def __init__(self, head: Head, *, include_usage: bool, echoes: Sequence[str] = ()) -> None:
        super().__init__(head, include_usage=include_usage)
        self._echoes = dict(enumerate(echoes))
        self._num_chars: dict[int, int] = {}
        self._prompt_logprobs: tuple[TokenLogprob, ...] = ()

    def _write(self, event: Event, out: list[bytes]) -> None:
        match event:
            case TextDelta(text, logprobs, index) | ReasoningDelta(text, logprobs, index):
                self._piece(index, text, logprobs, out)
            case PromptLogprobs(logprobs):
                self._prompt_logprobs = logprobs
            case ChoiceFinished(index, reason):
                self._end(index, reason, out, b"")
            case Notice():
                self._notices.append(event)
            case Finished():
                self._finish(event, out)

    def _piece(self, index: int, text: str, logprobs: Sequence[TokenLogprob], out: list[bytes]) -> None:
        if (echo := self._echoes.pop(index, "")) != "":
            text = echo + text
            logprobs = (*self._prompt_logprobs, *logprobs)
        if not text and not logprobs:
            return
        at = self._num_chars.get(index, 0)
        self._num_chars[index] = at + len(text)
        known = _encode(completion_logprobs(logprobs, at)) if logprobs else b"null"
        out.append(
            self._choice + b'%d,"text":%b,"logprobs":%b,"finish_reason":null}]}\n\n' % (index, _encode(text), known)
        )

    def _end(self, index: int, reason: FinishReason, out: list[bytes], extra: bytes) -> None:
        self._piece(index, "", (), out)
        self._ended.add(index)
        said = _reason(reason, False).encode()
        out.append(self._choice + b'%d,"text":"","logprobs":null,"finish_reason":"%b"}]%b}\n\n' % (index, said, extra))


def usage_value(usage: Usage) -> dict[str, Any]:
    """Tokens in OpenAI's words."""
    return {
        "prompt_tokens": usage.num_prompt_tokens,
        "completion_tokens": usage.num_output_tokens,
        "total_tokens": usage.num_prompt_tokens + usage.num_output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.num_cached_tokens},
        "completion_tokens_details": {
            "reasoning_tokens": usage.num_reasoning_tokens,
            "accepted_prediction_tokens": usage.num_accepted_tokens,
            "rejected_prediction_tokens": usage.num_drafted_tokens - usage.num_accepted_tokens,
        },
    }


def timings_value(usage: Usage, timings: Timings) -> dict[str, Any]:
    """Times in llama.cpp's words, in milliseconds. `queue_ms` is extra."""
    num_computed = usage.num_prompt_tokens - usage.num_cached_tokens
    return {
        "cache_n": usage.num_cached_tokens,
        "prompt_n": num_computed,
        "prompt_ms": round(timings.prompt_s * 1e3, 3),
        "prompt_per_second": round(num_computed / timings.prompt_s, 3) if timings.prompt_s else 0.0,
        "predicted_n": usage.num_output_tokens,
        "predicted_ms": round(timings.decode_s * 1e3, 3),
        "predicted_per_second": round(usage.num_output_tokens / timings.decode_s, 3) if timings.decode_s else 0.0,
        "draft_n": usage.num_drafted_tokens,
        "draft_n_accepted": usage.num_accepted_tokens,
        "queue_ms": round(timings.queue_s * 1e3, 3),
    }


def chat_logprobs(logprobs: Iterable[TokenLogprob]) -> dict[str, Any]:
    """Log probabilities as chats have them."""
    content = []
    for known in logprobs:
        entry = _token(known.text, known.logprob)
        entry["top_logprobs"] = [_token(text, logprob) for _token_id, text, logprob in known.top]
        content.append(entry)
    return {"content": content, "refusal": None}


def completion_logprobs(logprobs: Iterable[TokenLogprob], start: int) -> dict[str, Any]:
    """Log probabilities as completions have them; the first token begins at character `start`."""
    tokens, values, tops, offsets = [], [], [], []
    for known in logprobs:
        text = _text(known.text)
        tokens.append(text)
        values.append(_finite(known.logprob))
        tops.append({_text(other): _finite(logprob) for _token_id, other, logprob in known.top})
        offsets.append(start)
        start += len(text)
    return {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}


def _token(text: bytes, logprob: float) -> dict[str, Any]:
    return {"token": _text(text), "logprob": _finite(logprob), "bytes": list(text)}


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _finite(logprob: float) -> float:
    """JSON has no infinity: a token that cannot be has the least value OpenAI gives."""
    return max(logprob, -9999.0)


def _call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _reason(reason: FinishReason, has_calls: bool) -> str:
    return "tool_calls" if has_calls and reason == "stop" else _REASONS[reason]
