"""Transcript: a response as it comes into being, and each change of it as a numbered event. Pure; ids and times given.

Whole, streamed and replayed responses are all this one, so they cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from localllm.api import (
    Event,
    Finished,
    Notice,
    Progress,
    Queued,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallEvent,
    Usage,
)
from localllm.daemon.errors import Problem
from localllm.daemon.openai.values import chat_logprobs, timings_value

# What may be kept of one response's events.
MAX_LOG_BYTES = 64 * 1024 * 1024
_CODES = {"invalid_request": "invalid_prompt", "context_length_exceeded": "invalid_prompt"}
_encode = msgspec.json.encode


class Transcript:
    """One response. `response` is what it is by now; `log` all its events, None where they are not kept.

    `summarize`: thinking is given as a summary part, as clients that ask for one look there only.
    """

    def __init__(
        self, head: dict[str, Any], clock: Callable[[], float], *, summarize: bool = False, logprobs: bool = False
    ) -> None:
        self.response = head
        self.log: list[bytes] | None = []
        self.has_begun = False
        self._stem = head["id"].partition("_")[2]
        self._clock = clock
        self._summarize = summarize
        self._logprobs = logprobs
        self._num_events = 0
        self._num_log_bytes = 0
        self._fresh: list[bytes] = []
        # The item under way, its texts so far, and the number of its call where it is one.
        self._item: dict[str, Any] | None = None
        self._pieces: list[str] = []
        self._scores: list[TokenLogprob] = []
        self._position: int | None = None
        self._held: list[TextDelta] = []
        self._called: set[int] = set()
        self._notices: list[Notice] = []

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.response["status"] not in ("queued", "in_progress")

    # --- what makes events; each returns those it made --------------------------------------------------------------

    def begin(self) -> list[bytes]:
        """The first events; nothing if they were made."""
        if not self.has_begun:
            self.has_begun = True
            if self.response["status"] == "queued":
                self._emit("response.created", response=self.response)
                self._emit("response.queued", response=self.response)
                self.response["status"] = "in_progress"
            else:
                self._emit("response.created", response=self.response)
            self._emit("response.in_progress", response=self.response)
        return self._taken()

    def take(self, event: Event) -> list[bytes]:
        """What an event of the Backend adds."""
        if not isinstance(event, Progress | Notice | Queued) and not self.has_begun:
            self._fresh = self.begin()
        match event:
            case TextDelta():
                self._say(event)
            case ReasoningDelta(text) if text:
                self._think(text)
            case ToolCallDelta(position, call_id, name, arguments):
                self._call(position, call_id or "", name or "", arguments)
            case ToolCallEvent(call, _index, position):
                if position not in self._called or (self._position == position and not self._pieces):
                    self._call(position, call.id, call.name, call.arguments)
                if self._position == position:
                    self._end_item("completed")
            case Notice():
                self._notices.append(event)
            case Finished():
                self._finish(event)
        return self._taken()

    def fail(self, problem: Problem) -> list[bytes]:
        """The one event that ends a response that failed; nothing for one that came to its end."""
        if self.is_over and self.response["status"] != "cancelled":
            return []
        self._fresh = self.begin()
        self._end_item("incomplete")
        code = _CODES.get(problem.code, "server_error")
        error = {"code": code, "message": problem.message, "type": problem.code, "param": problem.param}
        self.response |= {"status": "failed", "error": error}
        self._emit("response.failed", response=self.response)
        return self._taken()

    def cancel(self) -> None:
        """End it with what it has; whoever cancels needs no event."""
        if not self.is_over:
            self._end_item("incomplete")
            self.response["status"] = "cancelled"
            self._taken()

    # --- items ------------------------------------------------------------------------------------------------------

    def _say(self, event: TextDelta) -> None:
        """White space between items is none: it waits for a word."""
        self._held.append(event)
        if self._is_open("message") or any(not delta.text.isspace() and delta.text for delta in self._held):
            self._write_held()

    def _write_held(self) -> None:
        if not self._is_open("message"):
            held = self._held
            self._open_item("message", {"role": "assistant", "content": []})
            self._held = held
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            self._emit_part("response.content_part.added", part=part)
        for delta in self._held:
            self._scores += delta.logprobs
            if delta.text:
                self._pieces.append(delta.text)
                self._emit_part("response.output_text.delta", delta=delta.text, logprobs=self._scored(delta.logprobs))
        self._held = []

    def _think(self, text: str) -> None:
        if not self._is_open("reasoning"):
            self._open_item("reasoning", {"summary": []} | ({} if self._summarize else {"content": []}))
            if self._summarize:
                part = {"type": "summary_text", "text": ""}
                self._emit_part("response.reasoning_summary_part.added", "summary_index", part=part)
            else:
                self._emit_part("response.content_part.added", part={"type": "reasoning_text", "text": ""})
        self._pieces.append(text)
        kind, index = self._reasoning_names()
        self._emit_part(f"{kind}.delta", index, delta=text)

    def _reasoning_names(self) -> tuple[str, str]:
        if self._summarize:
            return "response.reasoning_summary_text", "summary_index"
        return "response.reasoning_text", "content_index"

    def _call(self, position: int, call_id: str, name: str, arguments: str) -> None:
        if position not in self._called:
            self._called.add(position)
            self._open_item("function_call", {"call_id": call_id, "name": name, "arguments": ""})
            self._position = position
        if arguments and self._item is not None:
            self._pieces.append(arguments)
            self._emit(
                "response.function_call_arguments.delta",
                item_id=self._item["id"],
                output_index=self._index,
                delta=arguments,
            )

    @property
    def _index(self) -> int:
        return len(self.response["output"])

    def _is_open(self, kind: str) -> bool:
        return self._item is not None and self._item["type"] == kind

    def _open_item(self, kind: str, fields: dict[str, Any]) -> None:
        self._end_item("completed")
        prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc"}[kind]
        item_id = f"{prefix}_{self._stem}_{self._index}"
        self._item = {"id": item_id, "type": kind, "status": "in_progress", **fields}
        self._emit("response.output_item.added", output_index=self._index, item=self._item)

    def _end_item(self, status: str) -> None:
        """The last events of the item under way, if there is one."""
        self._held = []
        if self._item is None:
            return
        item, text = self._item, "".join(self._pieces)
        match item["type"]:
            case "message":
                scores = self._scored(self._scores)
                self._emit_part("response.output_text.done", text=text, logprobs=scores)
                part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": scores}
                self._emit_part("response.content_part.done", part=part)
                item["content"] = [part]
            case "reasoning":
                kind, index = self._reasoning_names()
                self._emit_part(f"{kind}.done", index, text=text)
                part = {"type": "summary_text" if self._summarize else "reasoning_text", "text": text}
                done = "response.reasoning_summary_part.done" if self._summarize else "response.content_part.done"
                self._emit_part(done, index, part=part)
                item["summary" if self._summarize else "content"] = [part]
            case _:
                item["arguments"] = text
                self._emit(
                    "response.function_call_arguments.done",
                    item_id=item["id"],
                    output_index=self._index,
                    name=item["name"],
                    arguments=text,
                )
        item["status"] = status
        self._emit("response.output_item.done", output_index=self._index, item=item)
        self.response["output"].append(item)
        self._item, self._pieces, self._scores, self._position = None, [], [], None

    def _finish(self, event: Finished) -> None:
        if self._held and self._item is None and not self.response["output"]:
            self._write_held()
        is_whole = event.reason in ("stop", "tool_calls", "abort")
        self._end_item("completed" if is_whole else "incomplete")
        status = "completed" if is_whole else "incomplete"
        self.response |= {
            "status": status,
            "usage": usage_value(event.usage),
            "timings": timings_value(event.usage, event.timings),
        }
        if is_whole:
            self.response["completed_at"] = int(self._clock())
        else:
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        if self._notices:
            self.response["notices"] = msgspec.to_builtins(self._notices)
        self._emit(f"response.{status}", response=self.response)

    # --- events -----------------------------------------------------------------------------------------------------

    def _scored(self, scores: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
        return chat_logprobs(scores)["content"] if self._logprobs else []

    def _emit_part(self, kind: str, index: str = "content_index", **fields: Any) -> None:
        assert self._item is not None
        self._emit(kind, item_id=self._item["id"], output_index=self._index, **{index: 0}, **fields)

    def _emit(self, kind: str, **fields: Any) -> None:
        value = {"type": kind, "sequence_number": self._num_events, **fields}
        self._num_events += 1
        data = f"event: {kind}\ndata: ".encode() + _encode(value) + b"\n\n"
        self._fresh.append(data)
        if self.log is not None:
            self._num_log_bytes += len(data)
            self.log.append(data)
            if self._num_log_bytes > MAX_LOG_BYTES:
                self.log = None

    def _taken(self) -> list[bytes]:
        fresh, self._fresh = self._fresh, []
        return fresh


def usage_value(usage: Usage) -> dict[str, Any]:
    """Tokens in the words of responses."""
    return {
        "input_tokens": usage.num_prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.num_cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.num_output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.num_reasoning_tokens},
        "total_tokens": usage.num_prompt_tokens + usage.num_output_tokens,
    }
