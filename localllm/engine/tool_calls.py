"""CallEvents: the calls of one answer as events, bit by bit and whole."""

from __future__ import annotations

from localllm.api import Event, ToolCall, ToolCallDelta, ToolCallEvent
from localllm.text.parsers.calls import CallArguments, CallBegin, CallPiece


class CallEvents:
    """Numbers the calls of answer `index`."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._begun = CallBegin("", "")
        self._arguments: list[str] = []
        self.num_calls = 0

    def take(self, piece: CallPiece) -> list[Event]:
        """The events of a piece."""
        at = self.num_calls
        if isinstance(piece, CallBegin):
            self._begun = piece
            self._arguments.clear()
            return [ToolCallDelta(at, piece.id, piece.name, index=self._index)]
        if isinstance(piece, CallArguments):
            self._arguments.append(piece.text)
            return [ToolCallDelta(at, arguments=piece.text, index=self._index)]
        self.num_calls += 1
        call = ToolCall(self._begun.id, self._begun.name, "".join(self._arguments))
        return [ToolCallEvent(call, self._index, at)]
