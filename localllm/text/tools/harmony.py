"""Calls in Harmony, the format of gpt-oss: a message to a recipient, `… to=functions.name …<|message|>{…}<|call|>`.

Channels and recipients stand in the same headers, so this parser reads reasoning, text and calls.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from localllm.api import ToolSpec
from localllm.text.parsers.calls import AnswerPiece
from localllm.text.parsers.tags import Kind, num_held
from localllm.text.tools.form import Shape, Sink, ToolFormat
from localllm.text.tools.json_text import copy_value
from localllm.text.tools.parser import CallSink, joined
from localllm.text.tools.source import MalformedCall, Reading, Source

_CHANNEL = "<|channel|>"
_MESSAGE = "<|message|>"
_ENDS = ("<|end|>", "<|return|>", "<|call|>")
_END = re.compile("|".join(map(re.escape, _ENDS)))
_BEGINNINGS = (_CHANNEL, _MESSAGE, "<|start|>", " to=")
_RECIPIENT = re.compile(r"\bto=(functions\.)?([^\s<]+)")
_MAX_HEADER_CHARS = 256
_SPECIAL = (_CHANNEL, _MESSAGE, "<|start|>", "<|constrain|>", *_ENDS)


class HarmonyCallParser:
    """Walks from header to body to header. See tools.parser for `eager`."""

    wants_special = frozenset(_SPECIAL)

    def __init__(self, starts_in_reasoning: bool, tools: Sequence[ToolSpec], *, eager: bool = False) -> None:
        self._source = Source()
        self._out: list[AnswerPiece] = []
        self._sink = CallSink(FORMAT, self._out, self._source, eager)
        self._known = {tool.name for tool in tools}
        self._eager = eager
        self._kind: Kind | None = "reasoning" if starts_in_reasoning else None
        self._work = self._main()

    @property
    def in_reasoning(self) -> bool:
        """Whether a message of the analysis channel is open."""
        return self._kind == "reasoning"

    def feed(self, text: str) -> list[AnswerPiece]:
        """The pieces that `text` completes."""
        self._source.push(text)
        next(self._work, None)
        return self._take()

    def flush(self) -> list[AnswerPiece]:
        """What was held back; a header that never ended says nothing to a reader."""
        self._source.ended = True
        next(self._work, None)
        return self._take()

    def _take(self) -> list[AnswerPiece]:
        taken, self._out[:] = joined(self._out), []
        return taken

    def _main(self) -> Reading[None]:
        name: str | None = None
        if self._kind is None:
            name = yield from self._first_header()
        while True:
            self._source.mark()
            if name is None:
                yield from self._body(self._kind or "text")
            else:
                yield from self._call(name)
            self._kind = None
            if self._source.ended and self._source.at >= len(self._source.text):
                return
            name = yield from self._header()

    def _first_header(self) -> Reading[str | None]:
        for beginning in _BEGINNINGS:
            if (yield from self._source.sees(beginning)):
                return (yield from self._header())
        self._kind = "text"  # none at all: the prompt had it, or the model does not keep to the format
        return None

    def _header(self) -> Reading[str | None]:
        """Read a header; the tool it calls, if it does. Otherwise `_kind` says what the message is."""
        source = self._source
        while (found := source.text.find(_MESSAGE, source.at)) < 0:
            if source.ended:
                source.at = len(source.text)
                return None
            if len(source.text) - source.at > _MAX_HEADER_CHARS:
                self._kind = "text"
                return None
            yield
        header = source.text[source.at : found]
        source.at = found + len(_MESSAGE)
        recipient = _RECIPIENT.search(header)
        if recipient is not None and (recipient[1] or recipient[2] in self._known):
            return recipient[2]
        self._kind = "reasoning" if header.partition(_CHANNEL)[2].strip().startswith("analysis") else "text"
        return None

    def _body(self, kind: Kind) -> Reading[None]:
        """Pass a message on up to its end."""
        source = self._source
        while True:
            found = _END.search(source.text, source.at)
            end = len(source.text) if found is None else found.start()
            if found is None and not source.ended:
                end -= num_held(source.text[source.at :], _ENDS)
            if end > source.at:
                self._out.append((kind, source.text[source.at : end]))
            source.at = end if found is None else found.end()
            source.mark()
            if found is not None or source.ended:
                return
            yield

    def _call(self, name: str) -> Reading[None]:
        """A message to a tool; one that is no JSON object is text."""
        sink, source = self._sink, self._source
        try:
            yield from source.space()
            sink.begin(name)
            yield from _copy_object(source, sink)
            sink.end()
            yield from source.space()
        except MalformedCall:
            if not sink.abandon() and (text := source.taken()):
                self._out.append(("text", text))
        for end in _ENDS:
            if (yield from source.skip(end)):
                return
        if not source.ended:
            yield from self._body("text")


def _copy_object(source: Source, sink: Sink) -> Reading[None]:
    if (yield from source.peek()) != "{":
        raise MalformedCall
    yield from copy_value(source, sink.arguments)


def _unused(_source: Source, _sink: Sink, _tools: Sequence[ToolSpec]) -> Reading[None]:
    raise MalformedCall
    yield


FORMAT = ToolFormat(
    "harmony",
    (_CHANNEL, _MESSAGE, "functions"),
    Shape(
        begin=_CHANNEL + "commentary to=functions.",
        middle=" <|constrain|>json" + _MESSAGE,
        end="<|call|>",
        separator="<|start|>assistant",
    ),
    _CHANNEL,
    (),
    _unused,
    special=_SPECIAL,
    one_call=True,
    is_harmony=True,
)
