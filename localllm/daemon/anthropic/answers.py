"""Events to Anthropic's messages, whole and streamed. Pure; ids are given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from localllm.api import Event, Finished, Notice, Progress, PromptUsage, Queued, Usage
from localllm.daemon.anthropic.blocks import Blocks
from localllm.daemon.anthropic.values import error_value, stop_value, usage_value
from localllm.daemon.errors import Problem
from localllm.daemon.sse import merged

_encode = msgspec.json.encode


def message(message_id: str, model: str, events: Iterable[Event]) -> dict[str, Any]:
    """The whole answer; `notices` are extra."""
    blocks = Blocks()
    content: list[dict[str, Any]] = []
    inputs: dict[int, str] = {}
    notices: list[Notice] = []
    finished = Finished("stop", Usage())
    for event in merged(list(events)):
        for verb, index, value in blocks.take(event):
            if verb == "start":
                content.append(dict(value))
            elif verb == "delta":
                _grow(content[index], value, inputs, index)
        if isinstance(event, Notice):
            notices.append(event)
        elif isinstance(event, Finished):
            finished = event
    for index, text in inputs.items():
        content[index]["input"] = _input(text)
    value = _head(message_id, model) | {"content": content} | stop_value(finished, blocks.has_calls)
    value["usage"] = usage_value(finished.usage)
    return value | ({"notices": notices} if notices else {})


def _grow(block: dict[str, Any], delta: dict[str, Any], inputs: dict[int, str], index: int) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "input_json_delta":
            inputs[index] = inputs.get(index, "") + delta["partial_json"]


def _input(text: str) -> dict[str, Any]:
    """The arguments of a call. An answer that was cut off may leave broken JSON: it is passed on as what it is."""
    try:
        value = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, RecursionError):
        return {"INVALID_JSON": text}
    return value if isinstance(value, dict) else {"INVALID_JSON": text}


def _head(message_id: str, model: str) -> dict[str, Any]:
    return {"id": message_id, "type": "message", "role": "assistant", "model": model}


class MessageStream:
    """The events of a message as a stream. What the input took is said at its begin, as it is read by then."""

    media_type = "text/event-stream"
    ping = b'event: ping\ndata: {"type":"ping"}\n\n'

    def __init__(self, message_id: str, model: str) -> None:
        self._blocks = Blocks()
        self._notices: list[Notice] = []
        self._start = _head(message_id, model) | {
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }
        self._has_begun = False

    def encode(self, events: Sequence[Event]) -> bytes:
        """The events as server-sent events."""
        out: list[bytes] = []
        for event in events:
            if isinstance(event, Notice):
                self._notices.append(event)
            if not self._has_begun and not isinstance(event, Notice | Progress | Queued):
                self._has_begun = True
                self._start["usage"] = usage_value(_usage_so_far(event))
                out.append(_line("message_start", {"message": self._start}))
            for verb, index, value in self._blocks.take(event):
                out.append(_line(f"content_block_{verb}", {"index": index} | _named(verb, value)))
            if isinstance(event, Finished):
                self._finish(event, out)
        return b"".join(out)

    def fail(self, problem: Problem) -> bytes:
        """The one error event that ends a stream."""
        return b"event: error\ndata: " + _encode(error_value(problem)) + b"\n\n"

    def _finish(self, event: Finished, out: list[bytes]) -> None:
        value: dict[str, Any] = {"delta": stop_value(event, self._blocks.has_calls), "usage": usage_value(event.usage)}
        if self._notices:
            value["notices"] = self._notices
        out.append(_line("message_delta", value))
        out.append(_line("message_stop", {}))


def _usage_so_far(first: Event) -> Usage:
    """What the input took, where the first event says so."""
    said = first.usage if isinstance(first, Finished) else first
    if not isinstance(said, PromptUsage | Usage):
        return Usage()
    return Usage(num_prompt_tokens=said.num_prompt_tokens, num_cached_tokens=said.num_cached_tokens)


def _named(verb: str, value: dict[str, Any]) -> dict[str, Any]:
    return {} if verb == "stop" else {"content_block" if verb == "start" else "delta": value}


def _line(kind: str, value: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: ".encode() + _encode({"type": kind} | value) + b"\n\n"
