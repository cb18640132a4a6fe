"""Events to the blocks of an Anthropic message: one at a time, each begun, continued and ended. Pure.

Whole and streamed answers are both made of these steps, so they cannot differ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from localllm.api import Event, Finished, ReasoningDelta, TextDelta, ToolCallDelta, ToolCallEvent

# Clients drop thinking without a signature before they send it back; here nothing is signed.
_SIGNATURE = "unsigned"
_THINKING, _TEXT = -1, -2


class Step(NamedTuple):
    """What happens to block `number`: it begins as `value`, goes on by `value`, or ends."""

    verb: str
    number: int
    value: dict[str, Any]


class Blocks:
    """One answer's blocks. `has_calls`: whether a tool is called among them."""

    def __init__(self) -> None:
        self.has_calls = False
        self._num_blocks = 0
        # What the open block is: the number of its call, or thinking, or text.
        self._open: int | None = None
        self._held = ""
        self._begun_calls: set[int] = set()

    def take(self, event: Event) -> list[Step]:
        """The steps that an event makes."""
        steps: list[Step] = []
        match event:
            case TextDelta(text):
                self._say(text, steps)
            case ReasoningDelta(text) if text:
                if self._open != _THINKING:
                    self._begin(_THINKING, {"type": "thinking", "thinking": "", "signature": ""}, steps)
                self._go_on({"type": "thinking_delta", "thinking": text}, steps)
            case ToolCallDelta(position, call_id, name, arguments):
                self._call(position, call_id or "", name or "", arguments, steps)
            case ToolCallEvent(call, _index, position):
                if position not in self._begun_calls:
                    self._call(position, call.id, call.name, call.arguments, steps)
                if self._open == position:
                    self._end(steps)
            case Finished():
                if self._held and not self._num_blocks:
                    self._begin(_TEXT, {"type": "text", "text": ""}, steps)
                    self._go_on({"type": "text_delta", "text": self._held}, steps)
                self._end(steps)
        return steps

    def _say(self, text: str, steps: list[Step]) -> None:
        """White space between blocks is none of them: it waits for a word."""
        if self._open != _TEXT:
            text = self._held + text
            if not text or text.isspace():
                self._held = text
                return
            self._begin(_TEXT, {"type": "text", "text": ""}, steps)
        if text:
            self._go_on({"type": "text_delta", "text": text}, steps)

    def _call(self, position: int, call_id: str, name: str, arguments: str, steps: list[Step]) -> None:
        if position not in self._begun_calls:
            self.has_calls = True
            self._begun_calls.add(position)
            self._begin(position, {"type": "tool_use", "id": call_id, "name": name, "input": {}}, steps)
        if arguments:
            self._go_on({"type": "input_json_delta", "partial_json": arguments}, steps)

    def _begin(self, what: int, block: dict[str, Any], steps: list[Step]) -> None:
        self._end(steps)
        self._open = what
        self._held = "" if what != _TEXT else self._held
        steps.append(Step("start", self._num_blocks, block))
        self._num_blocks += 1

    def _go_on(self, delta: dict[str, Any], steps: list[Step]) -> None:
        steps.append(Step("delta", self._num_blocks - 1, delta))

    def _end(self, steps: list[Step]) -> None:
        if self._open is None:
            return
        if self._open == _THINKING:
            self._go_on({"type": "signature_delta", "signature": _SIGNATURE}, steps)
        steps.append(Step("stop", self._num_blocks - 1, {}))
        self._open = None
        self._held = ""
