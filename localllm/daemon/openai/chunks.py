"""Events to the chunks of OpenAI's streams. Pure, with a state for each request; ids and times are given.

A stream's fixed bytes are made once for a request; a chunk is those around a piece of text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    TokenLogprob,
    ToolCallDelta,
    ToolCallEvent,
)
from localllm.daemon.errors import Problem
from localllm.daemon.openai.values import (
    Head,
    call_value,
    chat_logprobs,
    completion_logprobs,
    error_body,
    reason_word,
    tail_value,
    unscored,
    usage_value,
)

_encode = msgspec.json.encode


_PING = b": ping\n\n"
_MEDIA_TYPE = "text/event-stream"
_Write = Callable[[Event, list[bytes]], None]
_End = Callable[[int, FinishReason, list[bytes], bytes], None]


class _Frame:
    """What the chunks of one stream have in common: the bytes they begin with, and what is said at the end."""

    def __init__(self, head: Head, kind: str, *, include_usage: bool) -> None:
        values = {"id": head.id, "object": kind, "created": head.created, "model": head.model}
        self._start = b"data: " + _encode(values)[:-1] + b","
        self._include_usage = include_usage
        self.choice = self._start + b'"choices":[{"index":'
        self.notices: list[Notice] = []
        self.ended: set[int] = set()

    def finish(self, event: Finished, end: _End, out: list[bytes]) -> None:
        """The end of the stream: the last choice's end, the usage where asked for, [DONE]."""
        extra = b"," + _encode(tail_value(event, self.notices))[1:-1]
        if not self.ended:
            end(0, event.reason, out, extra)
        if self._include_usage:
            usage = _encode(usage_value(event.usage))
            out.append(self._start + b'"choices":[],"usage":' + usage + extra + b"}\n\n")
        out.append(b"data: [DONE]\n\n")


def _encoded(events: Sequence[Event], write: _Write) -> bytes:
    """What `write` puts out for all events."""
    out: list[bytes] = []
    for event in events:
        write(event, out)
    return b"".join(out)


def _failure(problem: Problem) -> bytes:
    """The one error event that ends a stream; no [DONE] follows."""
    return b"data: " + error_body(problem) + b"\n\n"


class ChatStream:
    """The chunks of a chat."""

    media_type = _MEDIA_TYPE
    ping = _PING

    def __init__(self, head: Head, *, include_usage: bool) -> None:
        self._frame = _Frame(head, "chat.completion.chunk", include_usage=include_usage)
        self._choice = self._frame.choice
        self._deltas: dict[int, bytes] = {}
        self._num_calls: dict[int, int] = {}
        self._streams_call: dict[int, bool] = {}  # by answer: its last call went out bit by bit

    def encode(self, events: Sequence[Event]) -> bytes:
        """The events as server-sent events."""
        return _encoded(events, self._write)

    def fail(self, problem: Problem) -> bytes:
        """The one error event that ends a stream."""
        return _failure(problem)

    def _write(self, event: Event, out: list[bytes]) -> None:
        match event:
            case TextDelta(text, logprobs, index):
                if text or logprobs:
                    self._delta(index, b'"content":' + _encode(text), out, logprobs)
            case ReasoningDelta(text, logprobs, index):
                self._delta(index, b'"reasoning_content":' + _encode(text), out, logprobs)
            case ToolCallDelta():
                self._call(event, out)
            case ToolCallEvent(call, index):
                if not self._streams_call.pop(index, False):
                    self._begin_call(index, call.id, call.name, call.arguments, out)
            case ChoiceFinished(index, reason):
                self._end(index, reason, out, b"")
            case Notice():
                self._frame.notices.append(event)
            case Finished():
                self._frame.finish(event, self._end, out)

    def _call(self, event: ToolCallDelta, out: list[bytes]) -> None:
        """More of a call; its first piece has its name."""
        if event.name is not None:
            self._streams_call[event.index] = True
            self._begin_call(event.index, event.id or "", event.name, event.arguments, out)
            return
        value = [{"index": self._num_calls[event.index] - 1, "function": {"arguments": event.arguments}}]
        self._delta(event.index, b'"tool_calls":' + _encode(value), out)

    def _begin_call(self, index: int, call_id: str, name: str, arguments: str, out: list[bytes]) -> None:
        number = self._num_calls.get(index, 0)
        self._num_calls[index] = number + 1
        value = [{"index": number} | call_value(call_id, name, arguments)]
        self._delta(index, b'"tool_calls":' + _encode(value), out)

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
        self._frame.ended.add(index)
        said = reason_word(reason, index in self._num_calls).encode()
        out.append(start + b'},"finish_reason":"' + said + b'"}]' + extra + b"}\n\n")


class CompletionStream:
    """The chunks of a completion. `echoes[index]` begins choice `index`; empty: nothing does."""

    media_type = _MEDIA_TYPE
    ping = _PING

    def __init__(self, head: Head, *, include_usage: bool, echoes: Sequence[str] = ()) -> None:
        self._frame = _Frame(head, "text_completion", include_usage=include_usage)
        self._choice = self._frame.choice
        self._echoes = dict(enumerate(echoes))
        self._num_chars: dict[int, int] = {}
        self._prompt_logprobs: tuple[TokenLogprob, ...] = ()

    def encode(self, events: Sequence[Event]) -> bytes:
        """The events as server-sent events."""
        return _encoded(events, self._write)

    def fail(self, problem: Problem) -> bytes:
        """The one error event that ends a stream."""
        return _failure(problem)

    def _write(self, event: Event, out: list[bytes]) -> None:
        match event:
            case TextDelta(text, logprobs, index) | ReasoningDelta(text, logprobs, index):
                self._piece(index, text, logprobs, out)
            case PromptLogprobs(logprobs):
                self._prompt_logprobs = logprobs
            case ChoiceFinished(index, reason):
                self._end(index, reason, out, b"")
            case Notice():
                self._frame.notices.append(event)
            case Finished():
                self._frame.finish(event, self._end, out)

    def _piece(self, index: int, text: str, logprobs: Sequence[TokenLogprob], out: list[bytes]) -> None:
        lead = ""
        if echo := self._echoes.pop(index, ""):
            text = echo + text
            if self._prompt_logprobs:
                lead = unscored(echo, self._prompt_logprobs)
                logprobs = (*self._prompt_logprobs, *logprobs)
        if not text and not logprobs:
            return
        at = self._num_chars.get(index, 0)
        self._num_chars[index] = at + len(text)
        known = _encode(completion_logprobs(logprobs, at, lead)) if logprobs else b"null"
        out.append(
            self._choice + b'%d,"text":%b,"logprobs":%b,"finish_reason":null}]}\n\n' % (index, _encode(text), known)
        )

    def _end(self, index: int, reason: FinishReason, out: list[bytes], extra: bytes) -> None:
        self._piece(index, "", (), out)
        self._frame.ended.add(index)
        said = reason_word(reason, False).encode()
        out.append(self._choice + b'%d,"text":"","logprobs":null,"finish_reason":"%b"}]%b}\n\n' % (index, said, extra))
