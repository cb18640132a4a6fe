"""Harmony, the format of gpt-oss: an answer is several messages, each with a channel.

`<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…<|return|>`. The channel `analysis`
is reasoning; `commentary` and `final` are text.
"""

from __future__ import annotations

from localllm.text.parsers.tags import Kind, OutputParser, Piece, ReasoningFormat, num_held

_CHANNEL = "<|channel|>"
_MESSAGE = "<|message|>"
_ENDS = ("<|end|>", "<|return|>", "<|call|>")
_SPECIAL = frozenset({_CHANNEL, _MESSAGE, *_ENDS, "<|start|>", "<|constrain|>"})
_HEADER_BEGINNINGS = (_CHANNEL, _MESSAGE, "<|start|>", " to=")
_MAX_HEADER_CHARS = 256


class HarmonyParser:
    """Walks from header to body to header."""

    wants_special = _SPECIAL

    def __init__(self, starts_in_reasoning: bool) -> None:
        self._kind: Kind | None = "reasoning" if starts_in_reasoning else None  # None: in a header
        self._is_first = True
        self._held = ""

    @property
    def in_reasoning(self) -> bool:
        """Whether a message of the analysis channel is open."""
        return self._kind == "reasoning"

    def feed(self, text: str) -> list[Piece]:
        """The pieces that `text` completes."""
        self._held += text
        pieces: list[Piece] = []
        while self._held and (self._header() if self._kind is None else self._body(self._kind, pieces)):
            pass
        return pieces

    def flush(self) -> list[Piece]:
        """What was held back of a body; a header that never ended says nothing to a reader."""
        held, self._held = self._held, ""
        return [(self._kind, held)] if held and self._kind is not None else []

    def _header(self) -> bool:
        if self._is_first and not any(
            self._held.startswith(begun) or begun.startswith(self._held) for begun in _HEADER_BEGINNINGS
        ):
            self._kind = "text"  # no header at all: the prompt had it, or the model does not keep to the format
            return True
        self._is_first = self._is_first and len(self._held) < len(_CHANNEL)
        header, found, rest = self._held.partition(_MESSAGE)
        if not found and len(self._held) <= _MAX_HEADER_CHARS:
            return False
        if not found:
            self._kind = "text"
            return True
        channel = header.partition(_CHANNEL)[2].strip()
        self._kind = "reasoning" if channel.startswith("analysis") else "text"
        self._held = rest
        return True

    def _body(self, kind: Kind, pieces: list[Piece]) -> bool:
        found = [(position, end) for end in _ENDS if (position := self._held.find(end)) >= 0]
        position, end = min(found) if found else (len(self._held) - num_held(self._held, _ENDS), "")
        if position:
            pieces.append((kind, self._held[:position]))
        self._held = self._held[position + len(end) :]
        if found:
            self._kind = None
        return bool(found)


def _parser(starts_in_reasoning: bool) -> OutputParser:
    return HarmonyParser(starts_in_reasoning)


FORMAT = ReasoningFormat(
    "harmony",
    (_CHANNEL, _MESSAGE),
    f"{_CHANNEL}analysis{_MESSAGE}",
    f"<|end|><|start|>assistant{_CHANNEL}final{_MESSAGE}",
    _parser,
    answer=f"{_CHANNEL}final{_MESSAGE}",
)
